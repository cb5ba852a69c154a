"""The way of a client into a namespace, from its CONNECT packet until it is live.

The order of the steps makes it safe: look up the missed events (so that handlers know whether the client recovered),
call the middleware, take the session over from an older connection and enter the index (deliveries from here on are
held back), call the connect handler, answer CONNECT, replay the missed events, go live.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from waypost.errors import ArgumentMismatch, ConnectionRefused, StorageError, shorten
from waypost.histograms import COUNTS, SECONDS, observe
from waypost.logs import by_client, fields, get_logger
from waypost.protocol.extension import ANSWER_FIELD, client_revision, split_auth
from waypost.server.calling.arrival import ARRIVAL, Arrival
from waypost.server.calling.faults import fault
from waypost.server.connections.addresses import counted_address
from waypost.server.namespaces.channel import Channel
from waypost.server.namespaces.directory import Directory, UnknownNamespace
from waypost.server.namespaces.socket import Socket
from waypost.server.recovery.live_session import session_key
from waypost.server.recovery.recovery import Keeper, RecoveryOutcome, RecoveryReason, Returning
from waypost.server.recovery.snapshot import Snapshot
from waypost.server.recovery.stuck import Undeliverable
from waypost.server.recovery.taking import NotNow
from waypost.server.watching.counters import count
from waypost.server.watching.hooks import report_failure

if TYPE_CHECKING:
    from waypost.server.connections.connection import Connection
    from waypost.server.events.pending import Pending
    from waypost.server.namespaces.core import NamespaceCore, Parts
    from waypost.server.namespaces.dialect import Dialect
    from waypost.typed.handlers import Handler

__all__ = ["Admission"]

logger = get_logger("waypost.admission")


_LONGEST_CLAIM = 200
"""Our pids and offsets are shorter by far. A longer value is an attempt to fill the store."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """The earlier session that a CONNECT packet names.

    Attributes:
        pid: The session's private id, if it can be one.
        offset: The offset of the last event seen, if it can be one.
        problem: Why no session can be looked for.
    """

    pid: str | None
    offset: str | None
    problem: RecoveryReason | None


_NO_CLAIM = _Claim(None, None, None)


class Admission:
    """One client's way into one namespace.

    Args:
        parts: The parts that all namespaces share.
        directory: The namespaces of the server.
        name: The name of the wanted namespace.
        connection: The client's connection.
        pending: The bytes of the connection's unhandled events.
        dialect: The client's dialect.
        payload: The payload of the CONNECT packet.
        is_told: Returns whether the log tells of a namespace that there is not.

    Attributes:
        channel: The client's channel, once it exists.
        pid: The private id of the session that the payload names; ``None`` for none.
        has_left: True once the client has left, or has sent another CONNECT. Then it gets no answer.
    """

    def __init__(
        self,
        parts: Parts,
        directory: Directory,
        name: str,
        connection: Connection,
        pending: Pending,
        dialect: Dialect,
        payload: dict[str, Any] | None,
        is_told: Callable[[], bool],
    ) -> None:
        self._is_told = is_told
        recovery = parts.settings.recovery if dialect.can_recover else None
        self._services = parts.services
        self._directory = directory
        self._name = name
        self._namespace: NamespaceCore
        self._connection = connection
        self._pending = pending
        self._dialect = dialect
        said, revision = split_auth(payload or {})
        self._client_revision = revision or client_revision(connection.handshake.headers)
        self._claim, auth = (_NO_CLAIM, said) if recovery is None else _split(said)
        self.pid = self._claim.pid
        self._payload = said
        self._handshake = replace(connection.handshake, auth=auth)
        self._recovery = recovery
        self._keeper: Keeper | None = None
        self._reason: RecoveryReason | None = None
        self._undeliverable: Undeliverable | None = None
        self._step = "recovery"
        self.has_left = False
        self._returning: Returning | None = None
        self._began = parts.services.environment.ticks_ns()
        self.channel: Channel | None = None

    async def run(self) -> Channel | None:
        """Admit or refuse the client, and answer its CONNECT.

        Returns:
            The channel, which gets the client's packets from now on; call `replay` next. ``None`` if the client was
            refused or has left.
        """
        try:
            self._namespace = await self._directory.find(
                self._name, self._handshake.auth, counted_address(self._connection.handshake)
            )
            if not self._namespace.has_journal:
                self._recovery, self._claim, self.pid = None, _NO_CLAIM, None
                self._handshake = replace(self._handshake, auth=self._payload)
            with self._namespace.visit():
                await self._namespace.ready()
                return await self._let_in()
        except UnknownNamespace as refusal:
            if self._is_told():
                logger.info(
                    "refused a client of %s: the application has no namespace of that name; io.of(…) makes one",
                    shorten(self._name),
                    extra=by_client(
                        fields(namespace=self._name, address=counted_address(self._connection.handshake))
                    ),
                )
            self._refuse(refusal.message, refusal.data)
        except ConnectionRefused as refusal:
            self._refuse(refusal.message, refusal.data)
        except (StorageError, NotNow) as problem:
            logger.error("%s can't be entered now: %s", self._name, problem, extra=fields(namespace=self._name))
            if not self.has_left:
                # Official clients do not retry after a refusal, but they reconnect after a lost connection.
                self._connection.close("forced server close")
        except BaseException as error:  # noqa: BLE001  # reported; the application's own fault must not end its client's connection
            sid = "" if self.channel is None else self.channel.sid
            report_failure(self._services.hooks, self._step, sid, self._name, fault(error), outcome=self._outcome())
            self._refuse("Internal server error", None)
        return None

    async def _let_in(self) -> Channel | None:
        if self._recovery is not None and self._recovery.sends_offset(self._handshake):
            self._keeper = self._namespace.ownership.keeper
        returning = await self._look_up()
        if self.has_left:
            return None
        self.channel = channel = self._make_channel(returning)
        arrival = Arrival(channel.sid)
        ARRIVAL.set(arrival)
        try:
            return await self._welcome(channel, returning)
        finally:
            arrival.is_over = True

    async def _welcome(self, channel: Channel, returning: Returning | None) -> Channel | None:
        """Call the application's code for the client; returns the channel if the client is in."""
        if returning is not None and self._keeper is not None:
            channel.resuming = self._keeper.resume(returning, self._handshake)
        self._step = "middleware"
        for middleware in self._namespace.all_middlewares:
            await self._namespace.handling.ask(middleware, channel)
            if channel.left_because is not None:
                self._turn_away(channel)
                return None
        self._returning = await self._enter(channel, returning)
        if channel.left_because is None:
            await channel.join_early_rooms()
        if channel.left_because is not None:
            # The client's next connection waits for what the application is told: it must be told nothing more.
            return None
        self._step = "connect"
        channel.greet()
        for handler in self._namespace.handling.handlers_of("connect"):
            await self._namespace.handling.ask(handler, channel, *self._auth_for(handler))
        await channel.save_data()
        return self._answer(channel)

    def _auth_for(self, handler: Handler) -> tuple[Any, ...]:
        try:
            return handler.convert((self._handshake.auth,))
        except ArgumentMismatch as mismatch:
            logger.info(
                "a client of %s is refused, its auth does not fit: %s",
                self._namespace.name,
                mismatch,
                extra=by_client(fields(namespace=self._namespace.name, event="connect")),
            )
            data = {"error": str(mismatch), **mismatch.to_payload()}
            raise ConnectionRefused("Invalid auth", data) from mismatch

    # -- the steps ------------------------------------------------------------------------------------------

    async def _look_up(self) -> Returning | None:
        if self._keeper is None:
            return None
        found = await self._find(self._keeper)
        if found is None or isinstance(found, Returning):
            return found
        if isinstance(found, Undeliverable):
            self._undeliverable = found
            found = RecoveryReason.UNDELIVERABLE
        self._reason = found
        count(self._keeper.counters.recoveries, found)
        logger.info(
            "a client of %s starts anew: %s",
            self._namespace.name,
            found,
            extra=by_client(fields(namespace=self._namespace.name, code=found.value)),
        )
        return None

    async def _find(self, keeper: Keeper) -> Returning | Undeliverable | RecoveryReason | None:
        claim = self._claim
        if claim.pid is None or claim.problem is not None:
            return claim.problem
        return await keeper.look_up(claim.pid, claim.offset, self._handshake)

    def _make_channel(self, returning: Returning | None) -> Channel:
        channel = Channel(
            self._namespace,
            self._connection,
            self._handshake,
            pending=self._pending,
            sid=self._new_sid() if returning is None else returning.stored.sid,
            data={} if returning is None else Snapshot.decode(returning.stored.data).data,
            recovered=returning is not None,
            recovery=RecoveryOutcome(self._reason, 0 if returning is None else len(returning.missed)),
            takes_offset=self._keeper is not None,
            client_revision=self._client_revision,
        )
        channel.socket = Socket(channel)
        return channel

    def _new_sid(self) -> str:
        return self._dialect.socket_id(self._namespace.name, self._connection.sid, self._services.environment.new_id)

    async def _enter(self, channel: Channel, returning: Returning | None) -> Returning | None:
        if self._keeper is None:
            channel.register((channel.sid,))
            return None
        if returning is not None and channel.resuming is not None:
            ownership = self._namespace.ownership
            missed = await ownership.take_over(channel, channel.resuming, self._keeper, returning)
            channel.recovery = RecoveryOutcome(None, len(missed))
            return replace(returning, missed=missed)
        if self.pid is not None and self._reason is not RecoveryReason.REFUSED:
            # It is the same client, although its session can't be continued.
            await self._namespace.ownership.retire(session_key(self.pid))
        if self._undeliverable is not None:
            await self._namespace.give_up(self._undeliverable)
        await self._namespace.ownership.begin(
            channel,
            self._keeper.new_session(channel.sid, channel.data, self._handshake, self._claim.offset),
        )
        return None

    def _answer(self, channel: Channel) -> Channel | None:
        connected: dict[str, Any] = {"sid": channel.sid}
        if channel.session is not None:
            connected["pid"] = channel.session.pid
        if self._reason is not None:
            connected["reason"] = str(self._reason)
        if channel.client_revision:
            connected[ANSWER_FIELD] = channel.client_revision
        frames = self._namespace.codec.encode_connect(self._namespace.name, self._dialect.answer(connected))
        if channel.left_because is None:
            self._namespace.has_admitted = True
            channel.start(frames)
            return channel
        if channel.left_because == "server namespace disconnect" and not self.has_left:
            self._connection.send_secret(frames)
            self._connection.send(self._namespace.codec.encode_disconnect(self._namespace.name))
        channel.tell_disconnected()
        return None

    def _turn_away(self, channel: Channel) -> None:
        """Answer the CONNECT of a client that the middleware disconnected."""
        if channel.left_because == "server namespace disconnect":
            self._refuse("Disconnected by the server", None)

    def leave(self, reason: str) -> None:
        """Note that the client has left. Running handlers continue to their end, and the client is not admitted."""
        self.has_left = True
        if self.channel is not None:
            self.channel.close(reason)

    def withdraw(self, pid: str | None) -> None:
        """Note that the client has sent another CONNECT, which names this private id. This one gets no answer."""
        self.has_left = True
        if self.channel is not None:
            self.channel.withdraw(pid)

    def _outcome(self) -> str:
        """Return what a failure of the application's code means for the client, in words."""
        if self.has_left:
            return ""
        is_first = self._step != "recovery" and not self._namespace.has_admitted
        return "; its client is refused" + ("; no client has got in since the start" if is_first else "")

    def _refuse(self, message: str, data: Any) -> None:
        if self.channel is not None:
            self.channel.refuse()
        if self.has_left:
            return
        payload = self._dialect.refusal(message, data)
        self._connection.send(self._services.codec.encode_connect_error(self._name, payload))

    async def replay(self) -> None:
        """Send the missed events at the client's pace, then let it go live."""
        channel, returning = self.channel, self._returning
        if channel is None:
            return
        if returning is not None and self._keeper is not None:
            try:
                await self._write_missed(channel, returning)
            except Exception:
                # Its client comes back: one that is left as it is would wait for events for ever.
                logger.exception(
                    "%s: what socket %s has missed can't be replayed",
                    self._name,
                    channel.sid,
                    extra=fields(sid=channel.sid, namespace=self._name),
                )
                self._connection.close("forced server close")
                return
            self._count_recovered(len(returning.missed))
            logger.debug(
                "socket %s recovered, %d events replayed",
                channel.sid,
                len(returning.missed),
                extra=fields(sid=channel.sid, namespace=self._name, count=len(returning.missed)),
            )
        if channel.left_because is None:
            channel.go_live()

    def _count_recovered(self, missed: int) -> None:
        counters = self._services.counters
        count(counters.recoveries, "recovered")
        counters.replayed_events += missed
        observe(counters.replay_events, COUNTS, missed)
        observe(counters.replay_seconds, SECONDS, self._services.environment.ticks_ns() - self._began)

    async def _write_missed(self, channel: Channel, returning: Returning) -> None:
        generation = self._namespace.generation
        for missed in returning.missed:
            if not await channel.out.replay(missed.event, f"{generation}.{missed.position}", missed.position):
                return


def _split(payload: dict[str, Any]) -> tuple[_Claim, dict[str, Any]]:
    """Split a CONNECT payload into what the client says of its session, and the application's auth."""
    if "pid" not in payload:
        return _NO_CLAIM, payload
    auth = {name: value for name, value in payload.items() if name not in ("pid", "offset")}
    pid, offset = payload["pid"], payload.get("offset")
    if not isinstance(pid, str) or len(pid) > _LONGEST_CLAIM:
        return _Claim(None, None, RecoveryReason.UNKNOWN), auth
    if not isinstance(offset, str | None) or len(offset or "") > _LONGEST_CLAIM:
        return _Claim(pid, None, RecoveryReason.GENERATION), auth
    # A Go client sends an empty offset when it has none.
    return _Claim(pid, offset or None, None), auth
