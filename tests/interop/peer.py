"""The official Socket.IO clients of js/peer.js as Python objects.

One Node process hosts any number of clients. Whatever they observe arrives here as it happens, in
order; a test states what it waits for and until when::

    async with Peer.start() as peer:
        client = await peer.client(url, transports=("websocket",))
        await client.connected()
        assert await client.call("echo", 1, b"two") == [1, b"two"]
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.support.require import JS_DIR, require_node
from tests.support.waiting import DEADLINE_S

MODES: dict[str, tuple[str, ...]] = {
    "polling": ("polling",),
    "websocket": ("websocket",),
    "upgrade": ("polling", "websocket"),
}

# "hold" keeps the ack for `Client.ack`, "ack" calls it without arguments, "echo" with the event's
# arguments, a list with its items.
Rule = Literal["hold", "ack", "echo"] | list[Any]

_LINE_LIMIT = 64 * 1024 * 1024


class PeerError(Exception):
    """The client threw, or its ack did not come in time; the text is JavaScript's."""


@dataclass(frozen=True)
class State:
    """What the official client knows of its connection."""

    id: str | None
    connected: bool
    recovered: bool
    transport: str | None
    engine_id: str | None
    pid: str | None
    offset: str | None
    buffered: int


@dataclass(frozen=True)
class Received:
    """An event as it reached the client's listeners, the offset taken off its arguments."""

    event: str
    args: tuple[Any, ...]
    offset: str | None
    token: int | None
    t_ms: float


@dataclass(frozen=True)
class Refusal:
    """A connect_error; ``active`` says whether the client goes on trying by itself."""

    message: str
    data: Any
    active: bool


def encode(value: Any) -> Any:
    """Turn bytes into what js/peer.js reads as a Buffer."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: encode(item) for key, item in value.items()}
    return {"$object": plain} if len(plain) == 1 and next(iter(plain)).startswith("$") else plain


def decode(value: Any) -> Any:
    """Turn what js/peer.js wrote for a Buffer into bytes."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("$bytes"), str):
        return base64.b64decode(value["$bytes"])
    return {key: decode(item) for key, item in value.get("$object", value).items()}


@dataclass
class Client:
    """One client in one namespace, and all it has seen so far."""

    peer: Peer
    name: str
    connects: list[State] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    disconnects: list[str] = field(default_factory=list)
    upgrades: list[str] = field(default_factory=list)
    attempts: int = 0
    pings: int = 0
    history: list[Received] = field(default_factory=list)
    received: defaultdict[str, list[Received]] = field(default_factory=lambda: defaultdict(list))
    # Told of everything the client sees, in the order in which all clients of the peer saw it.
    observer: Callable[[str, Received | None], None] | None = None

    def args_of(self, event: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each such event, in order of arrival."""
        return [received.args for received in self.received[event]]

    async def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Return as soon as the client has seen what makes ``condition`` true."""
        await self.peer.wait_for(condition, f"{what}; client {self.name} has {self.summary()}", timeout_s)

    async def connected(self, times: int = 1, timeout_s: float = DEADLINE_S) -> State:
        """Wait until the client has connected so many times in all; return its state at that moment."""
        await self.wait_for(lambda: len(self.connects) >= times, f"connect number {times}", timeout_s)
        return self.connects[times - 1]

    async def disconnected(self, times: int = 1, timeout_s: float = DEADLINE_S) -> str:
        """Wait until the client has been disconnected so many times in all; return that reason."""
        await self.wait_for(lambda: len(self.disconnects) >= times, f"disconnect number {times}", timeout_s)
        return self.disconnects[times - 1]

    async def refused(self, times: int = 1) -> Refusal:
        """Wait for so many connect errors in all; return the last of these."""
        await self.wait_for(lambda: len(self.refusals) >= times, f"connect_error number {times}")
        return self.refusals[times - 1]

    async def upgraded(self) -> None:
        """Wait until the client is on WebSocket."""
        await self.wait_for(lambda: bool(self.upgrades), "the upgrade")

    async def gets(self, event: str, count: int = 1, timeout_s: float = DEADLINE_S) -> list[tuple[Any, ...]]:
        """Wait for so many of an event in all; return their arguments."""
        await self.wait_for(lambda: len(self.received[event]) >= count, f"{count} of {event}", timeout_s)
        return self.args_of(event)

    async def hears(self, event: str, *args: Any) -> None:
        """Wait for an event with exactly these arguments, now or before."""
        await self.wait_for(lambda: args in self.args_of(event), f"{event}{args}")

    async def pinged(self, times: int) -> None:
        """Wait for so many heartbeats in all."""
        await self.wait_for(lambda: self.pings >= times, f"{times} heartbeats")

    async def emit(self, event: str, *args: Any, volatile: bool = False) -> None:
        """Emit without an ack."""
        await self._run("emit", event=event, args=encode(args), volatile=volatile)

    async def call(self, event: str, *args: Any, timeout_s: float = DEADLINE_S) -> list[Any]:
        """Emit and return the arguments of the ack.

        Raises:
            PeerError: The client gave up: in time, or because the connection went.
        """
        answer = await self._run("call", event=event, args=encode(args), timeout_ms=timeout_s * 1000)
        return list(decode(answer))

    async def burst(self, event: str, gaps_ms: Sequence[float]) -> None:
        """Emit 0, 1, 2, …, each after its pause; without pauses all in one tick."""
        await self._run("burst", event=event, gaps=list(gaps_ms))

    async def pause(self) -> None:
        """Have the client stay away after its next loss of connection."""
        await self._run("pause")

    async def resume(self, auth: Any = None) -> None:
        """Have the client connect, and reconnect from now on."""
        await self._run("connect", auth=encode(auth))

    async def flicker(self, gaps_ms: Sequence[float], *, goodbye: bool = True) -> None:
        """Have the client call `connect`, then after each pause `disconnect` (if it should) and `connect` again."""
        await self._run("flicker", gaps=list(gaps_ms), goodbye=goodbye)

    async def cut(self, how: Literal["close", "reset"] = "close") -> None:
        """Destroy the client's TCP connections without a goodbye."""
        await self._run("cut", how=how)

    async def away(self) -> None:
        """Cut the client off and keep it away until `resume`."""
        before = len(self.disconnects)
        await self.pause()
        await self.cut()
        await self.disconnected(before + 1)

    async def disconnect(self) -> None:
        """Leave the namespace, saying goodbye."""
        await self._run("disconnect")

    async def close_engine(self) -> None:
        """Close the connection under all namespaces, as the Engine.IO client does it."""
        await self._run("close_engine")

    async def rule(self, event: str, rule: Rule) -> None:
        """Say how acks of an event are answered from now on."""
        await self._run("rule", event=event, rule=encode(rule))

    async def ack(self, received: Received, *args: Any) -> None:
        """Answer an event whose ack was held."""
        await self._run("ack", token=received.token, args=encode(args))

    async def forge(self, pid: str | None, offset: str | None) -> None:
        """Replace what the client will send to recover."""
        await self._run("forge", pid=pid, offset=offset)

    async def state(self) -> State:
        """Return the client's state now."""
        return State(**await self._run("state"))

    def summary(self) -> str:
        """Say in one line what the client has seen, for failures."""
        counts = {event: len(received) for event, received in self.received.items()}
        return (
            f"connects={len(self.connects)} refusals={self.refusals[-3:]} disconnects={self.disconnects}"
            f" upgrades={self.upgrades} attempts={self.attempts} events={counts}"
        )

    def observe(self, kind: str, line: dict[str, Any]) -> None:
        """Take a line of the Node process that concerns this client."""
        match kind:
            case "connect":
                self.connects.append(State(**line))
            case "connect_error":
                self.refusals.append(Refusal(line["message"], decode(line["data"]), line["active"]))
            case "disconnect":
                self.disconnects.append(line["reason"])
            case "upgrade":
                self.upgrades.append(line["transport"])
            case "reconnect_attempt":
                self.attempts += 1
            case "ping":
                self.pings += 1
        if self.observer is not None:
            self.observer(kind, None)

    def receive(self, received: Received) -> None:
        """Take an event."""
        self.history.append(received)
        self.received[received.event].append(received)
        if self.observer is not None:
            self.observer("event", received)

    async def _run(self, cmd: str, **options: Any) -> Any:
        return await self.peer.run(cmd, client=self.name, **options)


class Peer:
    """The Node process: start it with `Peer.start`, make clients with `client`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._clients: dict[str, Client] = {}
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._commands = 0
        self._made = 0
        self._seq = 0
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncIterator[Peer]:
        """Start Node with js/peer.js; it ends with the block."""
        process = await asyncio.create_subprocess_exec(
            require_node(),
            str(JS_DIR / "peer.js"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
        )
        peer = cls(process)
        try:
            yield peer
        finally:
            await peer._stop()

    async def client(
        self,
        url: str,
        *,
        transports: Sequence[str] = MODES["upgrade"],
        namespace: str = "/",
        auth: Any = None,
        share: Client | None = None,
        rules: dict[str, Rule] | None = None,
        **options: Any,
    ) -> Client:
        """Make a client, which starts to connect.

        Args:
            url: The server's address.
            transports: As the client's option of that name.
            namespace: The namespace to connect to.
            auth: The client's ``auth``.
            share: A client whose connection this one uses, too.
            rules: How acks are answered, by event; ``"*"`` is for the others.
            options: More options of the official client, such as ``query``.
        """
        self._made += 1
        name = f"c{self._made}"
        client = self._clients[name] = Client(self, name)
        await self.run(
            "create",
            client=name,
            url=url,
            namespace=namespace,
            auth=encode(auth or {}),
            share=share.name if share else None,
            rules=encode(rules or {}),
            options={"transports": list(transports), **options},
        )
        return client

    async def run(self, cmd: str, **options: Any) -> Any:
        """Have the Node process do something and return its answer."""
        self._commands += 1
        reply = self._replies[self._commands] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": self._commands, "cmd": cmd, **options}) + "\n"
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        await self._process.stdin.drain()
        return await reply

    async def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Return as soon as what the clients have seen makes ``condition`` true."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._reading.done():
                raise AssertionError(f"the Node process has ended, still waiting for {what}")
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), deadline - time.monotonic())
            except TimeoutError:
                raise AssertionError(f"not within {timeout_s:g} s: {what}") from None

    async def leave_all(self) -> None:
        """Disconnect every client, so that the next test starts alone."""
        for client in self._clients.values():
            await client.pause()
            await client.disconnect()
        self._clients.clear()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            line = json.loads(raw)
            self._seq += 1
            assert line.pop("seq") == self._seq
            self._take(line.pop("kind"), line.pop("t"), line)
            self._changed.set()
        self._changed.set()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(PeerError("the Node process has ended"))

    def _take(self, kind: str, t_ms: float, line: dict[str, Any]) -> None:
        if kind == "reply":
            reply = self._replies.pop(line["id"])
            if reply.cancelled():
                return
            if "error" in line:
                reply.set_exception(PeerError(line["error"]))
            else:
                reply.set_result(line["value"])
            return
        client = self._clients.get(line.pop("client", ""))
        if client is None:
            return
        if kind == "event":
            args = tuple(decode(line["args"]))
            client.receive(Received(line["event"], args, line["offset"], line["token"], t_ms))
        else:
            client.observe(kind, line)

    async def _stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reading
