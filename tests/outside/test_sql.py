"""The SQL functions that applications call on PostgreSQL: what they accept, and what becomes of it."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import waypost
from tests.outside.schema import Database
from waypost.protocol.codec import codec_for
from waypost.protocol.records import read_values
from waypost.server.basics.targets import read_record


def events(database: Database, namespace: str = "/") -> list[Any]:
    """Move the outbox; return each event of a namespace with its rooms and those left out."""
    found = []
    for record in database.records(namespace):
        (rooms, except_), event = read_record(record, namespace, codec_for("json"))
        assert not isinstance(event, waypost.EncodingFailed)
        found.append((None if rooms is None else sorted(rooms), sorted(except_), *read_values(event.to_record())))
    return found


def test_an_event_has_its_rooms_and_arguments(database: Database) -> None:
    emit = "SELECT waypost.emit"
    database.query(f"{emit}('/', NULL, 'news', '[1, {{\"a\": [null, true, 1.5, \"ä\"]}}]')")
    database.query(f"{emit}('/', '{{drivers,\"a, b\"}}', 'pickup')")
    database.query(f"{emit}('/', '{{}}', 'for nobody', '[]')")
    database.query(f"{emit}('/', NULL, 'quoted \"name\"', except_ => '{{muted}}', wake => true)")
    database.query(f"{emit}('/admin', NULL, 'sold', jsonb_build_array(7))")
    assert events(database) == [
        (None, [], "news", 1, {"a": [None, True, 1.5, "ä"]}),
        (["a, b", "drivers"], [], "pickup"),
        ([], [], "for nobody"),
        (None, ["muted"], 'quoted "name"'),
    ]
    assert events(database, "/admin") == [(None, [], "sold", 7)]


def test_a_message_has_all_its_parts(database: Database) -> None:
    publish = "SELECT waypost.publish"
    ((made,),) = database.query(f"{publish}('mails', 'mail', '[\"ann\"]')")
    database.query(
        f"{publish}('mails', 'mail', id => '7', key => 'k', headers => '{{\"tenant\": \"7\"}}', ttl => '1 h')"
    )
    database.query(f"{publish}('mails', 'mail', delay => '1 hour', ttl => '90 s')")
    (first, second) = database.messages("mails")
    assert (*first[:3], read_values(first[3])) == (made, None, None, ["mail", "ann"])
    assert (*second[:3], read_values(second[3])) == ("7", "k", '{"tenant": "7"}', ["mail"])
    ((now,),) = database.query("SELECT waypost.now_1()")
    ((due_in, ttl_s),) = database.query("SELECT due_at - %s, ttl_s FROM waypost.scheduled", now)
    assert 3590 < due_in <= 3600
    assert ttl_s == 90


def test_a_repeated_id_is_one_event_and_one_message(database: Database) -> None:
    for _ in range(2):
        for _ in range(2):
            database.query("SELECT waypost.emit('/', NULL, 'paid', '[7]', id => 'order 7')")
            database.query("SELECT waypost.emit('/admin', NULL, 'paid', '[7]', id => 'order 7')")
            database.query("SELECT waypost.publish('mails', 'mail', '[7]', id => 'order 7')")
        assert len(events(database)) == len(events(database, "/admin")) == len(database.messages("mails")) == 1
    database.query("UPDATE waypost.emitted SET until = 0")
    database.query("SELECT waypost.emit('/', NULL, 'paid', '[7]', id => 'order 7')")
    assert len(events(database)) == 2
    database.query("UPDATE waypost.emitted SET until = 0")
    assert database.query("SELECT waypost.trim_outbox_1(10)") == [(2,)]


def test_nothing_is_there_after_a_rollback_and_nothing_before_the_commit(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT waypost.emit('/', NULL, 'never')")
        connection.rollback()
        connection.execute("SELECT waypost.emit('/', NULL, 'later')")
        database.query("SELECT waypost.emit('/', NULL, 'sooner')")
        assert [event[2] for event in events(database)] == ["sooner"]
        connection.commit()
    assert [event[2] for event in events(database)] == ["sooner", "later"]


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_the_callers_transaction_may_have_any_isolation(database: Database, level: str) -> None:
    with psycopg.connect(database.url) as connection:
        connection.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        connection.execute("SELECT 1")
        _grow(database)
        connection.execute("SELECT waypost.emit('/', NULL, 'x')")
    assert events(database)[-1][2] == "x"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("emit('no slash', NULL, 'e')", "namespace: expected text that starts with /"),
        ("emit('/a,b', NULL, 'e')", "namespace: "),
        ("emit(NULL, NULL, 'e')", "namespace: "),
        ("emit('/', NULL, 'connect')", "event: expected a name that is not reserved, came connect"),
        ("emit('/', NULL, NULL)", "event: "),
        ("emit('/', NULL, 'e', '{}')", "args: expected a JSON array"),
        ("emit('/', NULL, 'e', '7')", "args: expected a JSON array"),
        ("emit('/', NULL, 'e', NULL)", "args: expected a JSON array"),
        ("emit('/', NULL, 'e', '[1')", "invalid input syntax for type json"),
        ("emit('/', NULL, 'e', '[1e400]')", "args: expected numbers that a float can hold"),
        (
            "emit('/', NULL, 'e', ('[' || repeat('[', 254) || repeat(']', 254) || ']')::jsonb)",
            "args: expected at most 254",
        ),
        ("emit('/', NULL, 'e', jsonb_build_array(repeat('x', 67108864)))", "args: expected at most 64 MiB"),
        ("emit('/', ARRAY[NULL], 'e')", "rooms: expected names"),
        ("emit('/', ARRAY[repeat('x', 1025)], 'e')", "rooms: expected names"),
        ("emit('/', NULL, 'e', except_ => array_fill('x'::text, ARRAY[10001]))", "except_: expected at most 10000"),
        ("emit('/', NULL, 'e', id => '')", "id: expected text"),
        ("publish('', 'e')", "queue: expected text"),
        ("publish(repeat('x', 1025), 'e')", "queue: expected text"),
        ("publish('q', 'disconnect')", "event: expected a name"),
        ("publish('q', 'e', id => '')", "id: expected text"),
        ("publish('q', 'e', key => repeat('x', 1025))", "key: expected text"),
        ("publish('q', 'e', delay => '-1 s')", "delay: expected a time from 0"),
        ("publish('q', 'e', ttl => '0 s')", "ttl: expected a time above 0"),
        ("publish('q', 'e', headers => '[]')", "headers: expected a JSON object of texts"),
        ("publish('q', 'e', headers => '{\"a\": 1}')", "headers: expected a JSON object of texts"),
    ],
)
def test_what_nobody_could_read_is_refused(database: Database, call: str, expected: str) -> None:
    with pytest.raises(psycopg.Error, match=expected):
        database.query(f"SELECT waypost.{call}")
    assert database.move() == {}


def test_large_numbers_and_many_brackets_that_can_be_read_are_accepted(database: Database) -> None:
    database.query("SELECT waypost.emit('/', NULL, 'e', ('[' || repeat('[],', 1000) || '1e300, \"[[[\"]')::jsonb)")
    deep = "('[' || repeat('[', 253) || repeat(']', 253) || ']')::jsonb"
    database.query(f"SELECT waypost.emit('/', NULL, 'e', {deep})")
    database.query(f"SELECT waypost.emit('/', NULL, 'e', jsonb_build_array(repeat('[', 1000), '{'1' * 400}'))")
    assert len(events(database)) == 3


def test_a_full_queue_is_told(database: Database) -> None:
    database.query("SELECT waypost.publish('q', 'e')")
    assert len(database.messages("q")) == 1
    database.query(
        "UPDATE waypost.queue SET max_messages = 1, max_bytes = 1000, max_age_s = 1000, overflow = 'refuse', "
        "keep_settled_s = 0"
    )
    with pytest.raises(psycopg.Error, match="queue q is full") as raised:
        database.query("SELECT waypost.publish('q', 'e')")
    assert raised.value.sqlstate == "WP004"


def test_a_bad_row_goes_aside_with_its_reason_and_the_others_are_moved(database: Database) -> None:
    database.query("SELECT waypost.emit('/', NULL, 'first')")
    database.query('SELECT waypost.change_1(\'/\', 18::smallint, \'{"rooms": ["no hex"], "except": []}\', false)')
    database.query("SELECT waypost.change_1('/', 77::smallint, '{}', false)")
    database.query("SELECT waypost.emit('/', NULL, 'last')")
    assert [event[2] for event in events(database)] == ["first", "last"]
    aside = database.query("SELECT kind, target, reason FROM waypost.outbox_bad ORDER BY id")
    assert [(kind, target) for kind, target, _ in aside] == [(18, "/"), (77, "/")]
    assert all(reason for _, _, reason in aside)


def test_what_is_wrong_with_the_mover_puts_nothing_aside(database: Database) -> None:
    database.query("SELECT waypost.emit('/', NULL, 'kept')")
    node, incarnation = database.node
    with pytest.raises(psycopg.Error) as raised:
        database.query("SELECT waypost.move_outbox_1(%s, %s, 500)", node, incarnation - 1)
    assert raised.value.sqlstate == "WP001"
    assert database.query("SELECT count(*) FROM waypost.outbox_bad") == [(0,)]
    assert [event[2] for event in events(database)] == ["kept"]


def test_events_of_a_namespace_that_nobody_was_in_are_for_nobody(database: Database) -> None:
    database.query("SELECT waypost.emit('/nowhere', NULL, 'x', id => 'x')")
    assert database.move()["moved"] == 1
    assert database.query("SELECT name FROM waypost.journal ORDER BY 1") == [("/",), ("/admin",)]


def test_changes_stand_between_the_events_in_the_order_of_the_calls(database: Database) -> None:
    named = '{"rooms": null, "except": [], "moved": ["61"]}'
    database.query("SELECT waypost.emit('/', NULL, 'one')")
    database.query(f"SELECT waypost.change_1('/', 18::smallint, '{named}', false)")
    database.query("SELECT waypost.emit('/', NULL, 'two')")
    database.query(f"SELECT waypost.change_1('/', 19::smallint, '{named}', false)")
    database.query(
        'SELECT waypost.change_1(\'/\', 20::smallint, \'{"rooms": null, "except": [], "note": ""}\', false)'
    )
    moved = database.move()
    assert moved["moved"] == 5
    assert database.query("SELECT kind FROM waypost.log WHERE journal = 1 ORDER BY tick") == [
        (0,),
        (2,),
        (0,),
        (3,),
        (4,),
    ]
    assert moved["journals"] == {"1": 5}


def test_two_that_move_at_once_move_each_row_once(database: Database) -> None:
    with psycopg.connect(database.url) as connection:
        for number in range(2000):
            connection.execute("SELECT waypost.emit('/', NULL, 'n', jsonb_build_array(%s::int))", (number,))

    def move() -> None:
        while database.move(50).get("moved"):
            pass

    movers = [threading.Thread(target=move) for _ in range(3)]
    for one in movers:
        one.start()
    for one in movers:
        one.join()
    assert [event[3] for event in events(database)] == list(range(2000))


def _grow(database: Database) -> None:
    """Fill a table of the outbox until the other one is filled, and move it all."""
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT waypost.emit('/', NULL, 'n', '[1]') FROM generate_series(1, 3000)")
    while database.move().get("moved"):
        pass


def _sizes(database: Database) -> list[int]:
    query = "SELECT pg_relation_size('waypost.outbox_0'), pg_relation_size('waypost.outbox_1')"
    return sorted(database.query(query)[0])


def test_under_a_held_snapshot_what_was_moved_costs_no_look_anything(database: Database) -> None:
    with psycopg.connect(database.url) as holder:
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        for _ in range(5):
            _grow(database)
            # A look when nothing is there truncates what was filled before.
            database.move()
            database.move()
            assert _sizes(database)[0] == 0
            assert _sizes(database)[1] < 1_000_000
        holder.execute("SELECT count(*) FROM waypost.log")
    assert len(events(database)) == 15000


def test_who_has_inserted_and_not_committed_is_not_waited_for(database: Database) -> None:
    with psycopg.connect(database.url) as slow:
        slow.execute("SELECT waypost.emit('/', NULL, 'slow')")
        for _ in range(3):
            _grow(database)
        assert "slow" not in {event[2] for event in events(database)}
    assert events(database)[-1][2] == "slow"
    _grow(database)
    database.move()
    assert _sizes(database)[0] == 0


def test_a_granted_role_may_emit_and_publish_and_nothing_else(database: Database) -> None:
    database.query("DROP ROLE IF EXISTS shop_of_a_test")
    database.query("CREATE ROLE shop_of_a_test LOGIN")
    try:
        url = database.server.url(database.name, user="shop_of_a_test")
        with psycopg.connect(url, autocommit=True) as shop:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                shop.execute("SELECT waypost.emit('/', NULL, 'x')")
            database.query("SELECT waypost.grant_1('shop_of_a_test')")
            shop.execute("SELECT waypost.emit('/', NULL, 'x')")
            shop.execute("SELECT waypost.publish('q', 'x')")
            for denied in (
                "SELECT waypost.change_1('/', 20::smallint, '{}', false)",
                "SELECT waypost.outbox_add_1(0::smallint, '/', 'x', NULL, NULL, NULL, NULL, NULL, NULL, NULL, false)",
                "SELECT waypost.move_outbox_1(1, 1, 1)",
                "SELECT * FROM waypost.outbox_0",
                "INSERT INTO waypost.outbox_1 VALUES (1, 0::smallint, '/', 'x')",
                "SELECT nextval('waypost.outbox_turn')",
                "SELECT waypost.restored_1()",
                "SELECT * FROM waypost.setting",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    shop.execute(denied)
        assert [event[2] for event in events(database)] == ["x"]
        assert len(database.messages("q")) == 1
    finally:
        database.query("DROP OWNED BY shop_of_a_test")
        database.query("DROP ROLE shop_of_a_test")
