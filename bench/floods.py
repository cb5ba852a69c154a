"""How long others wait while polling clients flood a server: ``python -m bench.floods``.

One client posts 500,000 noops at once; then ten post a megabyte of noops each, again and again, 1 MB/s together.
Beside them an honest client calls an echo over a WebSocket a hundred times a second. Its waits are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.raw import RawPolling, join, open_polling, open_websocket
from tests.support.server_process import ServerProcess

_CALLS_PER_S = 100
_FLOODERS = 10


def noops(size: int) -> bytes:
    """Return a body of so many bytes of noops."""
    return b"\x1e".join([b"6"] * (size // 2))


async def flood(raw: RawPolling, body: bytes, pause_s: float, taken: list[int]) -> None:
    """Post a body again and again, until it is cancelled; ``taken`` gets the status of each."""
    while True:
        began = time.monotonic()
        taken.append((await raw.post(body)).status)
        await asyncio.sleep(max(began + pause_s - time.monotonic(), 0))


async def waits(port: int, seconds: float) -> list[float]:
    """Call an echo again and again; return how long each took, in milliseconds."""
    took = []
    async with open_websocket(port) as raw:
        await join(raw)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            await raw.send('421["echo",1]')
            await raw.receive()
            took.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(1 / _CALLS_PER_S)
    return took


def show(what: str, took: list[float]) -> None:
    """Print how long calls took."""
    ordered = sorted(took)
    p99 = ordered[int(len(ordered) * 0.99)]
    print(
        f"{what:32} calls {len(ordered):5}  p50 {statistics.median(ordered):7.1f} ms  p99 {p99:7.1f} ms"
        f"  longest {ordered[-1]:7.1f} ms"
    )


async def run(seconds: float, log: Path) -> None:
    """Measure, one case after the other."""
    server = ServerProcess.waypost(log)
    await server.start()
    try:
        show("nobody floods", await waits(server.port, seconds))
        async with open_polling(server.port) as raw:
            await join(raw)
            once = asyncio.create_task(raw.post(noops(999_000)))
            show("one post of 500,000 noops", await waits(server.port, seconds / 2))
            assert (await once).status == 200
        floods, taken = [], list[int]()
        for _ in range(_FLOODERS):
            async with open_polling(server.port) as raw:
                await join(raw)
                floods.append(asyncio.create_task(flood(raw, noops(999_000), _FLOODERS, taken)))
        show("ten clients, 1 MB/s of noops", await waits(server.port, seconds))
        print(f"{len(taken)} of their posts were answered: {sorted(set(taken))}")
        for task in floods:
            task.cancel()
        await asyncio.gather(*floods, return_exceptions=True)
    finally:
        await server.stop()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m bench.floods", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each case is measured")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(parser.parse_args().seconds, Path(folder) / "server.log"))


if __name__ == "__main__":
    main()
