"""What users hold shows its public names, and nothing else without an underscore."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import waypost
from tests.api.surface import instance_attributes, is_public, own_bases, public_classes, public_members

# Whoever adds a public name adds it here. A name of the server's insides gets an underscore instead.
NAMES = {
    "waypost.Server": """
        api asgi call close compress consumer describe disconnect_sockets emit event except_ fetch_sockets
        from_thread health hooks in_ lifespan local metrics of off off_any off_any_outgoing on on_any on_any_outgoing
        on_server_side once options queue queue_infos register run schedule server_side_call server_side_emit
        sockets_join sockets_leave start state task timeout to use use_store volatile
    """,
    "waypost.Namespace": """
        call compress disconnect_sockets emit event except_ fetch_sockets from_thread in_ local name off off_any
        off_any_outgoing on on_any on_any_outgoing on_server_side once parent register server_side_call
        server_side_emit sockets_join sockets_leave timeout to use volatile
    """,
    "waypost.ParentNamespace": """
        call children compress disconnect_sockets emit event except_ fetch_sockets from_thread in_ local of off
        off_any off_any_outgoing on on_any on_any_outgoing once register sockets_join sockets_leave timeout to
        use volatile
    """,
    "waypost.Socket": """
        broadcast call compress connected consume data disconnect emit except_ extend_lease from_thread
        handshake id in_ join leave local message_id namespace off off_any off_any_outgoing on on_any
        on_any_outgoing once recovered recovery rooms stop_consuming timeout to transport use volatile
    """,
    "waypost.SocketOperator": """
        broadcast call compress emit except_ from_thread in_ local timeout to volatile
    """,
    "waypost.Operator": """
        call compress disconnect_sockets emit except_ fetch_sockets from_thread in_ local sockets_join
        sockets_leave timeout to volatile
    """,
    "waypost.RemoteSocket": """
        call data disconnect emit from_thread handshake id join leave rooms server
    """,
    "waypost.FetchedSockets": """
        is_partial missing_servers sockets
    """,
    "waypost.BroadcastCall": """
        so_far timeout_s
    """,
    "waypost.Queue": """
        cancel configure consumers dead_letters delete discard_dead_letters emit emit_many from_thread
        get_consumer info name options pause peek publish purge redrive resume
    """,
    "waypost.Consumer": """
        create delete from_thread info name pause queue resume seek
    """,
    "waypost.OperatorFromThread": """
        call compress disconnect_sockets emit except_ fetch_sockets in_ local run sockets_join sockets_leave
        timeout to volatile
    """,
    "waypost.RemoteSocketFromThread": """
        call disconnect emit join leave
    """,
    "waypost.SocketFromThread": """
        broadcast call consume disconnect emit except_ extend_lease in_ join leave stop_consuming to volatile
    """,
    "waypost.SocketOperatorFromThread": """
        call emit
    """,
    "waypost.QueueFromThread": """
        cancel configure consumers dead_letters delete discard_dead_letters emit emit_many info pause peek purge
        redrive resume
    """,
    "waypost.ConsumerFromThread": """
        create delete info pause resume seek
    """,
    "waypost.Message": """
        args attempt enqueued_at event extend headers id key nack offset queue
    """,
    "waypost.NewMessage": """
        args delay_s event headers id key ttl_s
    """,
    "waypost.QueuedMessage": """
        args enqueued_at event expires_at headers id key offset
    """,
    "waypost.DeadLetter": """
        args consumer died_at enqueued_at event exception failures headers history id key lost_deliveries number
        offset reason
    """,
    "waypost.Client": """
        active call close connect connected disconnect emit event events id io message namespace of off off_any
        off_any_outgoing on on_any on_any_outgoing once outbox recovered transport volatile wait_closed
    """,
    "waypost.VolatileEmitter": """
        emit
    """,
    "waypost.ClientOutbox": """
        count discard drained pending
    """,
    "waypost.ConnectionEvents": """
        off on
    """,
    "waypost.EventStream": """
        close
    """,
    "waypost.ReceivedEvent": """
        ack arg args message name reject
    """,
    "waypost.MountedServer": """
        server
    """,
    "waypost.Api": """
        close disconnect_sockets emit except_ in_ of queue queue_infos sockets sockets_join sockets_leave state to
        volatile
    """,
    "waypost.ApiTarget": """
        disconnect_sockets emit except_ in_ sockets_join sockets_leave to volatile
    """,
    "waypost.ApiQueue": """
        consumers dead_letters discard_dead_letters emit get_consumer info name pause peek purge redrive resume
    """,
    "waypost.ApiConsumer": """
        name pause resume seek
    """,
    "waypost.Hook": """
        name observers remove tell
    """,
    "waypost.Hooks": """
        connection_closed connection_opened consumer_expired error event_undeliverable message_died messages_lost
        packet_received packet_sent request_refused socket_connected socket_disconnected
    """,
}


@pytest.mark.parametrize("owner", NAMES)
def test_an_object_shows_these_names_and_no_others(owner: str) -> None:
    assert public_members(public_classes()[owner]) == set(NAMES[owner].split())


def test_what_blocks_has_the_same_names() -> None:
    """The client for threads differs by `next` alone: a loop without asyncio has no other way to wait for a time."""
    others = ("Api", "ApiTarget", "ApiQueue", "ApiConsumer")
    for name in ("Client", "VolatileEmitter", "ClientOutbox", "ReceivedEvent", *others):
        assert public_members(getattr(waypost.sync, name)) == set(NAMES[f"waypost.{name}"].split())
    assert public_members(waypost.sync.EventStream) == {*NAMES["waypost.EventStream"].split(), "next"}


def described(owner: type) -> set[str]:
    """Return the names that the docstrings of a class list as attributes or arguments."""
    return {name for one in own_bases(owner) for name in re.findall(r"^ {8}(\w+):", one.__doc__ or "", re.MULTILINE)}


def undescribed() -> Iterator[str]:
    for name, owner in public_classes().items():
        if issubclass(owner, dict):
            continue  # the class of options that it stands for says what its keys mean
        fields = {field for one in own_bases(owner) for field in vars(one).get("__annotations__", {})}
        fields |= {attribute.name for attribute in instance_attributes(owner)}
        for field in fields:
            if is_public(field) and field not in described(owner):
                yield f"{name}.{field}"


def test_every_attribute_is_described() -> None:
    assert sorted(undescribed()) == []


async def test_what_a_running_server_hands_out_shows_nothing_else() -> None:
    """As `dir` shows it: also what was set beside ``__init__``."""
    io = waypost.Server()
    await io.start()
    try:
        held = [io, io.of("/chat"), io.of(re.compile("/tenant-.+")), io.to("room"), io.queue("q")]
        held.append(io.queue("q").get_consumer())
        for one in held:
            seen = {name for name in dir(one) if is_public(name)}
            assert seen == set(NAMES[f"waypost.{type(one).__name__}"].split())
    finally:
        await io.close(drain_s=0)
