"""The steps of a history that are about several servers, each a method."""

from __future__ import annotations

from tests.sim.history import Step
from tests.sim.servers.world import ServersWorld

__all__ = ["ServersActions"]


class ServersActions:
    """Does the steps that only several servers have.

    Args:
        world: To whom.
    """

    def __init__(self, world: ServersWorld) -> None:
        self._world = world

    def kill(self, step: Step) -> None:
        node = self._world.node_of(step)
        if node is not None:
            self._world.kill(node, step.what[0])

    def stop(self, step: Step) -> None:
        node = self._world.node_of(step)
        if node is not None:
            self._world.stop(node, step.what[0])

    def queue(self, step: Step) -> None:
        world = self._world
        world.in_server(step, lambda server: world.operations.queue(server, step.where, step.what[0]))

    def freeze(self, step: Step) -> None:
        node = self._world.node_of(step)
        if node is not None:
            self._world.freeze(node, step.what[0])

    def away(self, step: Step) -> None:
        self._world.lose_host(step.what[0])

    def orphan(self, step: Step) -> None:
        self._world.kill_host(step.what[0])

    def set_clock(self, step: Step) -> None:
        self._world.set_clock(step.who, step.what[0])

    def ask(self, step: Step) -> None:
        self._world.managers[step.who].socket(step.where).emit("ask", step.what[0])

    def hop(self, step: Step) -> None:
        times, every_s = step.what
        for number in range(times):
            self._world.after(number * every_s, self._leave_line, step.who)

    def _leave_line(self, who: str) -> None:
        link = self._world.managers[who].link
        if link is not None:
            link.cut()
            link.client_notices()
