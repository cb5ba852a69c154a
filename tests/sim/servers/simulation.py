"""Runs a history of several servers from its first step to the last check."""

from __future__ import annotations

import asyncio

from tests.sim.actions import Actions
from tests.sim.clock import VirtualLoop
from tests.sim.servers.actions import ServersActions
from tests.sim.servers.history import make_servers_history
from tests.sim.servers.oracle import check_ghosts, check_live, check_told
from tests.sim.servers.world import ServersWorld
from tests.sim.simulation import Result, play_out

__all__ = ["run_servers"]

_SETTLE_EVERY_S = 5.0
_SETTLE_ROUNDS = 60
_CALL_S = 60.0


def run_servers(seed: int) -> Result:
    """Run the history of a seed."""
    world = ServersWorld(make_servers_history(seed), VirtualLoop())
    with world.simulated_store():
        return play_out(world, _play(world))


async def _play(world: ServersWorld) -> None:
    actions = Actions(world, ServersActions(world))
    for number in range(world.plan.count):
        world.start(number)
    for step in world.history.steps:
        world.later(step.at, actions.do, step)
    await asyncio.sleep(world.history.steps[-1].at + 1.0)
    world.heal()
    # As long as a client may take a dead connection for alive.
    await asyncio.sleep(world.circumstances.ping_interval_s + world.circumstances.ping_timeout_s)
    await _settle(world)
    check_live(world)
    _call_all_while_they_hop(world)
    await _settle(world)
    check_told(world)
    check_live(world)
    for socket in world.client_sockets:
        socket.disconnect()
    await asyncio.sleep(100.0)
    check_ghosts(world)
    world.problems += world.loop.unheard() + world.loop.problems


async def _settle(world: ServersWorld) -> None:
    for _ in range(_SETTLE_ROUNDS):
        await asyncio.sleep(_SETTLE_EVERY_S)
        if not _unsettled(world):
            break
    else:
        world.wrong("it does not settle: " + _unsettled(world))
    await asyncio.sleep(2 * _SETTLE_EVERY_S)


def _call_all_while_they_hop(world: ServersWorld) -> None:
    """Call each client, and let it lose its line before the call can reach it."""
    world.last_calls = len(world.operations.all)
    for (name, namespace), node in sorted(world.homes.items(), key=lambda one: one[0]):
        socket, client = world.sockets[name, namespace], world.managers[name].socket(namespace)
        # The last that was let in may be one whose client never heard of it.
        if client.connected and client.epochs[-1].sid == socket.id and not node.life.over:
            world.run_in(node, world.operations.call(socket, _CALL_S))
    for manager in world.managers.values():
        if manager.link is not None:
            link = manager.link
            link.cut()
            link.client_notices()


def _unsettled(world: ServersWorld) -> str:
    if not world.is_whole:
        return f"not all servers are there, only {sorted(world.nodes)}"
    away = [socket.label for socket in world.client_sockets if not socket.connected]
    if away:
        return f"away: {away}"
    for queue, consumer in set(world.circumstances.consumes.values()):
        backlog = world.disk.store._queues.backlogs.get(queue)
        found = None if backlog is None else backlog.consumers.get(consumer)
        if backlog is not None and found is not None and backlog.consumer_info(found).waiting:
            return f"queue {queue} waits for {consumer}"
    return ""
