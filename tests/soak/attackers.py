"""The attackers, in a process of their own: each attack again and again, ``python -m tests.soak.attackers``."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from random import Random

from tests.soak.attacks import ATTACKS

__all__ = ["main"]

_PAUSE_S = 2.0


async def _repeat(name: str, port: int, rng: Random, counts: Counter[str]) -> None:
    while True:
        try:
            await ATTACKS[name](port, rng)
        except (OSError, EOFError, ValueError, KeyError, IndexError):
            # The server refused it, and that is its business.
            counts[f"{name}, refused"] += 1
        else:
            counts[name] += 1
        await asyncio.sleep(rng.random() * 2 * _PAUSE_S)


async def main(port: int, seed: str, seconds: float) -> Counter[str]:
    """Attack a server for so long, and return how often each attack was made."""
    counts: Counter[str] = Counter()
    tasks = [asyncio.create_task(_repeat(name, port, Random(f"{seed} {name}"), counts)) for name in ATTACKS]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    return counts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))))
