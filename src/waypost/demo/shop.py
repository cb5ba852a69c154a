"""The shop, a process of its own: sends parcels at a fixed interval until its standard input is closed.

It writes a line of JSON for each step: ``{"asked": [id, attempt]}`` and ``{"accepted": [id, attempt]}``. If a call
gets no answer because the server was killed, the shop repeats it with the same parcel id until it gets one.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import time
from typing import Any

import orjson

import waypost

__all__ = ["main"]

_ANSWER_TIMEOUT_S = 4.0
_GOODS = ("bicycle bell", "lemon cake", "two maps", "a fern", "chess clock", "wool socks", "field radio", "tea tin")


def main() -> None:
    """Run the shop, as ``python -m waypost.demo.shop URL DRIVER SECONDS_BETWEEN``."""
    parser = argparse.ArgumentParser(prog="waypost.demo.shop")
    parser.add_argument("url")
    parser.add_argument("driver")
    parser.add_argument("every_s", type=float)
    options = parser.parse_args()
    asyncio.run(_sell(options.url, options.driver, options.every_s))


async def _sell(url: str, driver: str, every_s: float) -> None:
    client = waypost.Client(url, auth={"role": "shop"}, reconnection_delay_s=0.1, reconnection_delay_max_s=0.5)
    await client.connect()
    closing = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    for number in itertools.count(1):
        await _deliver(client, _parcel(number, driver))
        await asyncio.wait({closing}, timeout=every_s)
        if closing.done():
            break
    await client.disconnect()


def _parcel(number: int, driver: str) -> dict[str, Any]:
    return {
        "id": f"P-{number:03}",
        "driver": driver,
        "goods": _GOODS[number % len(_GOODS)],
        "sent_at_ms": time.time() * 1000,
    }


async def _deliver(client: waypost.Client, parcel: dict[str, Any]) -> None:
    for attempt in itertools.count(1):
        _report("asked", parcel["id"], attempt)
        try:
            reply = await client.call("pickup", {**parcel, "attempt": attempt}, timeout_s=_ANSWER_TIMEOUT_S)
        except (waypost.AckTimeout, waypost.NotConnected):
            # The server may have accepted the parcel before it died. The id makes the repetition harmless.
            continue
        if "refused" in reply:
            raise RuntimeError(f"the service refused {parcel}: {reply['refused']}")
        _report("accepted", parcel["id"], attempt)
        return


def _report(what: str, parcel_id: str, attempt: int) -> None:
    sys.stdout.write(orjson.dumps({what: [parcel_id, attempt]}).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
