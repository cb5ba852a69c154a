"""Answers the questions of other servers of a cluster, for the sockets of this server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.server.cluster.seam import CallSockets, DisconnectSockets, FetchSockets, Question, Reply
from waypost.server.emitting.broadcast import BroadcastCall
from waypost.server.emitting.flags import Flags
from waypost.server.emitting.operator import Operator
from waypost.server.emitting.remote_socket import SocketDetails, details_of

if TYPE_CHECKING:
    from waypost.server.basics.targets import Target
    from waypost.server.emitting.members import Member
    from waypost.server.namespaces.core import NamespaceCore

__all__ = ["answer"]


async def answer(namespace: NamespaceCore, server: str, question: Question) -> Reply:
    """Answer a question of another server.

    Args:
        namespace: The namespace of the question.
        server: This server's name.
        question: The question.

    Returns:
        The reply; an `Others` brings it to the other server.
    """
    if isinstance(question, FetchSockets):
        return Reply(server, answered=True, value=await _details(namespace, question.target))
    if isinstance(question, CallSockets):
        flags = Flags(timeout_s=question.timeout_s, local=True)
        answers = await BroadcastCall(namespace.feed, question.target, question.event, flags)
        return Reply(server, answered=True, value=answers)
    if isinstance(question, DisconnectSockets):
        flags = Flags(timeout_s=namespace.flags.timeout_s, local=True)
        await Operator(namespace.feed, question.target, flags).disconnect_sockets(close=question.close)
        return Reply(server, answered=True)
    answered, value = await namespace.server_side.receive(question)
    return Reply(server, answered=answered, value=value)


async def _details(namespace: NamespaceCore, target: Target) -> list[SocketDetails]:
    found: list[SocketDetails] = []

    def add(member: Member) -> None:
        if member.is_told:
            found.append(details_of(member))

    await namespace.feed.each(target, add)
    return found
