"""``python -m tests.interop.parcels [--rounds N] [--seed N]``: plays stories, each of a seed of its own."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.interop.parcels.story import play
from tests.interop.peer import Peer


async def main(rounds: int, first_seed: int | None) -> None:
    async with Peer.start() as peer:
        for number in range(rounds):
            seed = random.randrange(2**32) if first_seed is None else first_seed + number
            sys.stdout.write(f"seed {seed}: ")
            sys.stdout.flush()
            with tempfile.TemporaryDirectory() as directory:
                outcome = await play(peer, Path(directory), random.Random(seed))
            sys.stdout.write(f"{outcome}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Plays stories of shops, clerks and drivers.")
    parser.add_argument("--rounds", type=int, default=1, help="how many stories")
    parser.add_argument("--seed", type=int, help="the first one's seed; the others follow")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.rounds, arguments.seed))
