"""Answers the questions of other servers of a cluster, for the sockets of this server.

What a question does to sockets is done at once, when it arrives: so it keeps its place in the order in which this
server applies what others have done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from waypost.errors import EncodingFailed, MalformedPacket
from waypost.logs import fields, get_logger
from waypost.server.cluster.asking import UNANSWERED, Ask, End, More, Part, Request, Response, Stop
from waypost.server.cluster.seam import (
    Acked,
    Asked,
    CallSockets,
    FetchSockets,
    Found,
    Result,
    ServerSideEvent,
    SocketDetails,
    Value,
)
from waypost.server.emitting.ack_round import AckRound
from waypost.server.emitting.remote_socket import details_of

if TYPE_CHECKING:
    from waypost.server.basics.targets import Target
    from waypost.server.cluster.bus import Topic
    from waypost.server.emitting.members import Member
    from waypost.server.namespaces.core import NamespaceCore
    from waypost.server.namespaces.directory import Directory
    from waypost.server.services import Services

__all__ = ["Answering"]

logger = get_logger("waypost.cluster")

_PAGE_SOCKETS = 200
_PAGE_BYTES = 256 << 10
_MAX_QUESTIONS = 1_000
"""The most questions of all servers that are being answered; more get no answer."""

_Key = tuple[str, int]


class Answering:
    """The questions of other servers that this server answers.

    Args:
        directory: The namespaces.
        services: The services that the server's parts share.
        responses: The topic of replies.
    """

    def __init__(self, directory: Directory, services: Services, responses: Topic[Response]) -> None:
        self._directory = directory
        self._services = services
        self._responses = responses
        self._pages: dict[_Key, deque[SocketDetails]] = {}
        self._rounds: dict[_Key, tuple[AckRound, asyncio.TimerHandle]] = {}
        self._running = 0

    def receive(self, server: str, request: Request) -> None:
        """Take a question of another server, or what it says of an earlier one."""
        key = server, request.number
        if isinstance(request, Stop):
            self._stop(key)
        elif isinstance(request, More):
            self._send_page(key)
        else:
            self._answer(key, request)

    def gone(self, server: str) -> None:
        """Stop answering a server that is gone."""
        for key in [key for key in (*self._pages, *self._rounds) if key[0] == server]:
            self._stop(key)

    def _answer(self, key: _Key, ask: Ask) -> None:
        namespaces = [found for name in ask.namespaces if (found := self._directory.get(name)) is not None]
        question = ask.question
        if len(self._pages) + len(self._rounds) + self._running >= _MAX_QUESTIONS:
            logger.warning(
                "a question of server %s is not answered: %d are being answered",
                key[0],
                _MAX_QUESTIONS,
                extra=fields(node=key[0], count=_MAX_QUESTIONS),
            )
            self._end(key, is_complete=False)
        elif isinstance(question, FetchSockets):
            self._fetch(key, namespaces, question.target, ask.timeout_s)
        elif isinstance(question, CallSockets):
            self._call(key, namespaces, question)
        else:
            self._running += 1
            running = self._run(key, namespaces, question)
            self._services.keep_task(asyncio.get_running_loop().create_task(running))

    def _send(self, key: _Key, value: Value) -> None:
        server, number = key
        self._responses.send(server, Part(number, value))

    def _end(self, key: _Key, *, is_complete: bool = True) -> None:
        server, number = key
        if number != UNANSWERED:
            self._responses.send(server, End(number, is_complete))

    def _stop(self, key: _Key) -> None:
        self._pages.pop(key, None)
        asked = self._rounds.pop(key, None)
        if asked is not None:
            ack_round, timer = asked
            timer.cancel()
            ack_round.give_up()

    # -- sockets in pages -----------------------------------------------------------------------------------

    def _fetch(self, key: _Key, namespaces: Iterable[NamespaceCore], target: Target, timeout_s: float) -> None:
        found = (details_of(member) for member in _members(namespaces, target) if member.is_told)
        self._pages[key] = deque(found)
        asyncio.get_running_loop().call_later(timeout_s, self._pages.pop, key, None)
        self._send_page(key)

    def _send_page(self, key: _Key) -> None:
        """Send the next sockets; those after them when the other server has taken these."""
        waiting = self._pages.get(key)
        if waiting is None:
            return
        page: list[SocketDetails] = []
        size = 0
        while waiting and len(page) < _PAGE_SOCKETS and size < _PAGE_BYTES:
            details, encoded = _sendable(waiting.popleft())
            page.append(details)
            size += encoded
        if page:
            self._send(key, Found(tuple(page)))
        if not waiting:
            del self._pages[key]
            self._end(key)

    # -- acks -----------------------------------------------------------------------------------------------

    def _call(self, key: _Key, namespaces: list[NamespaceCore], question: CallSockets) -> None:
        try:
            ack_round = self._begin_round(key, namespaces, question)
        except (EncodingFailed, MalformedPacket) as problem:
            logger.error(
                "server %s has asked for acks of an event that can't be sent here: %s",
                key[0],
                problem,
                extra=fields(node=key[0]),
            )
            self._end(key, is_complete=False)
            return
        # First whom this server has asked: so the other one knows who is missing if this one goes.
        sids = tuple(member.sid for member in ack_round.waiting)
        self._send(key, Asked(sids, tuple(ack_round.missing)))
        if not sids:
            self._end(key)
            return
        timer = asyncio.get_running_loop().call_later(question.timeout_s, self._stop, key)
        self._rounds[key] = ack_round, timer

    def _begin_round(self, key: _Key, namespaces: list[NamespaceCore], question: CallSockets) -> AckRound:
        codec = self._services.codec
        ack_round = AckRound(
            codec,
            codec.restore_event(question.record, namespaces[0].name if namespaces else "/"),
            lambda sid, arguments: self._answered(key, sid, arguments),
            volatile=question.volatile,
            compress=question.compress,
        )
        try:
            for member in _members(namespaces, question.target):
                ack_round.ask(member)
        except EncodingFailed:
            ack_round.give_up()
            raise
        return ack_round

    def _answered(self, key: _Key, sid: str, arguments: list[Any] | None) -> None:
        if key not in self._rounds:
            return
        try:
            self._send(key, Acked(sid, arguments))
        except EncodingFailed as problem:
            logger.error(
                "the ack of socket %s can't be sent to server %s: %s",
                sid,
                key[0],
                problem,
                extra=fields(sid=sid, node=key[0]),
            )
            self._send(key, Acked(sid, None))
        ack_round, timer = self._rounds[key]
        if not ack_round.waiting:
            timer.cancel()
            del self._rounds[key]
            self._end(key)

    # -- server-side events ---------------------------------------------------------------------------------

    async def _run(self, key: _Key, namespaces: Iterable[NamespaceCore], event: ServerSideEvent) -> None:
        try:
            is_answered = False
            for namespace in namespaces:
                is_answered, value = await namespace.server_side.receive(event)
                if is_answered and key[1] != UNANSWERED:
                    self._send(key, Result(value))
        except EncodingFailed as problem:
            logger.error(
                "the answer to server-side %r of server %s can't be sent: %s",
                event.event,
                key[0],
                problem,
                extra=fields(event=event.event, node=key[0]),
            )
            is_answered = False
        finally:
            self._running -= 1
        self._end(key, is_complete=is_answered)


def _members(namespaces: Iterable[NamespaceCore], target: Target) -> Iterator[Member]:
    for namespace in namespaces:
        yield from namespace.index.select(target.rooms, target.except_)


def _sendable(details: SocketDetails) -> tuple[SocketDetails, int]:
    """Return what can be sent of a socket, and its size: data that can't be encoded is left out."""
    if details.handshake.from_middleware is not None:
        details = msgspec.structs.replace(details, handshake=replace(details.handshake, from_middleware=None))
    try:
        return details, len(msgspec.msgpack.encode(details))
    except (TypeError, ValueError, OverflowError, RecursionError) as problem:
        logger.error(
            "the data of socket %s can't be sent to other servers: %s",
            details.id,
            problem,
            extra=fields(sid=details.id),
        )
    details = msgspec.structs.replace(details, data={})
    return details, len(msgspec.msgpack.encode(details))
