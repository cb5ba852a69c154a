"""The other servers of a cluster: what this server hears of them, and who is told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.errors import EncodingFailed, MalformedPacket, StorageError
from waypost.logs import fields, get_logger
from waypost.server.cluster.asking import Asking, Request, Response
from waypost.server.cluster.bus import Bus, Told, Topic
from waypost.server.namespaces.answering import Answering

if TYPE_CHECKING:
    from waypost.server.events.moves import Moves
    from waypost.server.events.repeats import Repeats
    from waypost.server.namespaces.directory import Directory
    from waypost.server.namespaces.numbers import Numbers
    from waypost.server.services import Services
    from waypost.storage.following import Nodes

__all__ = ["Neighbours"]

logger = get_logger("waypost.cluster")


class Neighbours:
    """Connects the parts of a server with the other servers, while the store is open.

    Args:
        services: The services that the server's parts share.
        asking: Asks the other servers.
        directory: The namespaces.
        numbers: The numbers of all servers.
        repeats: The events that clients repeat until they get an answer.
    """

    def __init__(
        self, services: Services, asking: Asking, directory: Directory, numbers: Numbers, repeats: Repeats
    ) -> None:
        self._services = services
        self._asking = asking
        self._directory = directory
        self._numbers = numbers
        self._repeats = repeats
        self._moves: Moves | None = None
        self._answering: Answering | None = None

    def meet(self, nodes: Nodes) -> None:
        """Hear of the others, and tell them."""
        self._services.bus = Bus(nodes, self._hear)
        responses: Topic[Response] = Topic(nodes, "answer", Response, self._asking.receive)
        self._answering = answering = Answering(self._directory, self._services, responses)
        requests: Topic[Request] = Topic(nodes, "ask", Request, answering.receive)
        self._asking.begin(nodes, requests)
        nodes.watch(self._changed)
        self._numbers.begin(nodes)
        self._moves = self._repeats.meet(nodes)

    def part(self, problem: StorageError) -> None:
        """Hear no more of the others: the store is closed, or lost.

        Args:
            problem: What those get that wait for something to be told to all.
        """
        bus, self._services.bus, self._answering = self._services.bus, None, None
        self._asking.end()
        self._numbers.end()
        self._repeats.part()
        self._moves = None
        if bus is not None:
            bus.close(problem)

    def _changed(self, name: str, is_there: bool) -> None:
        if is_there:
            logger.info("server %s has joined", name, extra=fields(node=name))
            self._numbers.joined()
            if self._services.bus is not None:
                self._services.bus.greet(name)
            return
        logger.info("server %s is gone", name, extra=fields(node=name))
        self._asking.gone(name)
        self._numbers.gone(name)
        if self._moves is not None:
            self._moves.gone(name)
        if self._answering is not None:
            self._answering.gone(name)

    def _hear(self, told: Told) -> None:
        namespace = self._directory.get(told.namespace)
        if namespace is None:
            return
        try:
            namespace.feed.hear(told.target, told.action)
        except (EncodingFailed, MalformedPacket) as problem:
            logger.error(
                "%s: an event of another server can't be sent here: %s",
                told.namespace,
                problem,
                extra=fields(namespace=told.namespace),
            )
