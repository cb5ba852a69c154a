"""Deliberate faults of our SQL, each of which the trace check must find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.storage.postgres.trace.walk import AT_QUEUES, Course
from waypost.storage.postgres.schema import read_scripts

__all__ = ["FAULTS", "QUEUE_FAULTS", "Fault", "script_with"]


_USUAL: Final = Course()
_BREAKS: Final = Course(breaks=0.3, prefers=("several",))
_AT_QUEUES: Final = Course(prefers=AT_QUEUES)
_AT_LETTERS: Final = Course(prefers=("enqueue", "settle", "letters", "wait"))
_BREAKS_AT_QUEUES: Final = Course(prefers=("enqueue", "settle"), breaks=0.3)
_ENDS: Final = Course(prefers=("session", "expire", "wait", "look"), acts=(0, 0, 3, 6, 6, 6))
_TRIMS: Final = Course(prefers=("append", "upkeep"))
_ANSWERS: Final = Course(prefers=("answer", "upkeep", "wait"))
_BREAKS_AT_ANSWERS: Final = Course(prefers=("answer",), breaks=0.3)
_GHOSTS_ANSWER: Final = Course(prefers=("answer", "declare"))
_RESTORES: Final = Course(prefers=("session",), acts=(0, 0, 3), restores=10)
_IN_ROOMS: Final = Course(prefers=("session", "look"), acts=(0, 0, 11, 12, 13, 13, 13))
_CLAIMS: Final = Course(prefers=("session", "look"), acts=(0, 3, 4, 5, 6))
_GHOSTS: Final = Course(prefers=("session", "declare"), acts=(0, 0, 0, 5, 5, 6, 7))
_HANDS_OVER: Final = Course(prefers=("session",), acts=(0, 3, 4, 7, 8))


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        name: What is wrong.
        function: The function that has it.
        right: The text that is replaced, the first one in the function.
        wrong: What stands there instead.
        course: The walk that finds it.
    """

    name: str
    function: str
    right: str
    wrong: str
    course: Course = _USUAL


_CHECK: Final = "PERFORM waypost.node_check_1(p_node, p_incarnation);"
_LOCK: Final = "PERFORM waypost.lock_journal_1(p_journal);"

FAULTS: Final = (
    Fault("appends of a dead node count", "append_1", _CHECK, ""),
    Fault("mixed writes of a dead node count", "write_1", _CHECK, ""),
    Fault("a dead node claims consumers", "claim_consumer_1", _CHECK, ""),
    Fault("a position is told twice", "append_1", "v_end.o_position + 1;", "greatest(v_end.o_position, 1);"),
    Fault("appends take no lock", "append_1", _LOCK, ""),
    Fault("mixed writes take no lock", "write_1", _LOCK, ""),
    Fault("what was done is told as not done", "settle_1", "RETURN v_answer;", "RETURN NULL;", _BREAKS),
    Fault("settling forgets the first rows", "settle_1", "min(tick), 'position', min(position)",
          "max(tick), 'position', max(position)", _BREAKS),
    Fault("the rows of other nodes come without records", "follow_1", "CASE WHEN l.node = p_node THEN",
          "CASE WHEN true THEN"),
    Fault("any node detaches a session", "detach_session_1", "AND (s.home IS NOT NULL OR s.claimer IS NOT NULL)",
          "AND false", _CLAIMS),
    Fault("a session is attached that another one claims", "attach_session_1",
          "RETURN '{\"error\": \"WP002\"}';", "", _CLAIMS),
    Fault("an earlier claimer is not told", "claim_session_1", "OR s.claimer <> p_node", "",
          _CLAIMS),
    Fault("a claim waits for nobody", "claim_session_1", "s.home <> p_node AND s.handed IS NULL", "false"),
    Fault("a session is opened twice", "open_session_1", "IF NOT FOUND THEN", "IF false THEN"),
    Fault("any node saves a session", "session_operation_1", "s.home IS NULL OR s.home = p_node", "true"),
    Fault("nothing is handed over", "session_operation_1", "SET handed = p_record", "SET handed = ''",
          _HANDS_OVER),
    Fault("sessions of a dead node stay attached", "sessions_of_dead_1",
          "is_orphan = s.home_attached", "is_orphan = false"),
    Fault("a node that comes back has none of its sessions", "sessions_renewed_1", "home = p_node,", "home = NULL,",
          _GHOSTS),
    Fault("an incarnation stays", "renew_1", "incarnation + 1", "incarnation"),
    Fault("a dead node keeps its consumers", "node_ended_1", "PERFORM waypost.free_1(p_node);", ""),
    Fault("a consumer has two owners", "claim_consumer_1", "IF v_owner IS NULL THEN", "IF true THEN"),
    Fault("any node gives up a consumer", "release_consumer_1", "AND node = p_node;", ";"),
    Fault("sessions end too early", "expire_sessions_1", "AND s.expires_at < now\n        AND s.journal",
          "AND s.expires_at < now + 20\n        AND s.journal", _ENDS),
    Fault("an ended session leaves no trace", "expire_sessions_1", "WHERE s.id = ANY (ids)\n        ON CONFLICT",
          "WHERE false\n        ON CONFLICT", _ENDS),
    Fault("the home of an ended session is not told", "expire_sessions_1", "SELECT s.home, name", "SELECT -1, name",
          _ENDS),
    Fault("too much is trimmed", "trim_journal_1", "v_end.o_position - p_max_entries", "v_end.o_position - 3",
          _TRIMS),
    Fault("trimming tells another position", "trim_journal_1", "v_last.position + 1, v_last.bytes)::text",
          "v_last.position, v_last.bytes)::text", _TRIMS),
    Fault("a session leaves the room of its own name", "join_matching_1", "WHERE r <> s.sid", "", _IN_ROOMS),
    Fault("who is left out moves all the same", "matching_sessions_1",
          "IF cardinality(except_) > 0 AND cardinality(ids) > 0 THEN", "IF false THEN", _IN_ROOMS),
    Fault("a room that was left at once was joined", "leave_session_1", "FROM gone WHERE since < p_position;",
          "FROM gone;", _IN_ROOMS),
    Fault("any node proves something for a session", "prove_sessions_1", "AND (s.home = p_node OR s.home IS NULL)",
          "", _IN_ROOMS),
    Fault("answers of a dead node count", "keep_answers_1", _CHECK, "", _GHOSTS_ANSWER),
    Fault("an account keeps too much", "limit_answers_1", "EXIT WHEN v_account = '' OR v_excess <= 0;", "EXIT;",
          _ANSWERS),
    Fault("the newest answers are given up", "free_answers_1", "given_up, at, sequence LIMIT",
          "given_up, at DESC, sequence DESC LIMIT", _ANSWERS),
    Fault("answers end too early", "trim_answers_1", "waypost.now_1() - p_ttl_s", "waypost.now_1()", _ANSWERS),
    Fault("a kept answer is told as not kept", "settle_answers_1", "RETURN EXISTS", "RETURN NOT EXISTS",
          _BREAKS_AT_ANSWERS),
    Fault("sessions outlive a generation", "sessions_ended_1",
          "PERFORM waypost.forget_sessions_1(coalesce(v_ids, '{}'));", "", _RESTORES),
    Fault("no row tells of a generation", "generation_begin_1",
          "PERFORM waypost.log_row_1(v_journal, 8::smallint, convert_to(v_name, 'UTF8'));", "", _RESTORES),
    Fault("the generation before stays", "generation_begin_1",
          "DELETE FROM waypost.generation WHERE journal = v_journal AND number <= v_number;", "", _RESTORES),
)  # fmt: skip

_OF_QUEUES: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("acks of a dead node count", "queue_write_1", _CHECK, ""),
    ("rare writes of a dead node count", "queue_changes_1", _CHECK, ""),
    ("writes of a queue take no lock", "queue_write_1", "v_queue := waypost.queue_lock_1(p_queue);",
     "SELECT id INTO v_queue FROM waypost.queue WHERE name = p_queue;"),
    ("any node settles", "consumer_is_ours_1", "IN (0, p_node);", "IS NOT NULL;"),
    ("acks of an epoch that is over count", "queue_outcome_1", "c.epoch = (p_outcome ->> 'epoch')::bigint",
     "c.epoch IS NOT NULL"),
    ("what was done to a queue is told as not done", "queue_settle_1", "RETURN v_answer;", "RETURN NULL;"),
    ("an id is added again in its window", "queue_seen_1", "RETURN coalesce(v_position, 0);", "RETURN 0;"),
    ("an id is added again without a delay", "queue_enqueue_plain_1", "IF FOUND THEN", "IF false THEN"),
    ("a delay is forgotten", "queue_enqueue_1", "IF v_one.delay_s > 0 THEN", "IF false THEN"),
    ("what was released is released again", "queue_release_1",
     "DELETE FROM waypost.scheduled WHERE number = ANY (v_numbers);", ""),
    ("what is not due is released", "queue_release_1", "AND t.due_at <= v_now", ""),
    ("what is due comes in another order", "queue_release_1", "ORDER BY t.due_at, t.number",
     "ORDER BY t.due_at DESC, t.number DESC"),
    ("a time to live begins anew when it is due", "queue_release_1", "v_one.due_at + v_one.ttl_s",
     "v_now + v_one.ttl_s"),
    ("messages end before their time", "queue_trim_1", "AND expires_at <= v_now AND", "AND"),
    ("a full queue takes more", "queue_make_room_1", "refused := v_beyond > 0 OR v_beyond_bytes > 0;", ""),
    ("nobody is told what was dropped", "queue_drop_1", "IF p_lose THEN", "IF false THEN"),
    ("what was given up stays", "queue_outcome_1", "v_ended := v_ended || v_done.finished;", ""),
    ("dead letters are not counted", "queue_outcome_1", "c.dead := c.dead + 1;", ""),
    ("a redriven dead letter stays", "dead_letters_redrive_1",
     "s := waypost.dead_letters_forget_1(s, v_numbers);", ""),
    ("a redriven dead letter is for all", "dead_letters_redrive_1", "s, p_now, NULL, d.consumer,",
     "s, p_now, NULL, NULL,"),
    ("what an ack passes over is settled", "consumer_pass_1", "IF cardinality(p_done) < p_upto - v_after THEN",
     "IF false THEN"),
    ("attempts are not counted", "consumer_count_1", "c.failed := c.failed + v_failed;", ""),
    ("what a dead node held was not lost", "queues_of_dead_1", "v_row.losses + 1", "v_row.losses"),
    ("a moved consumer keeps its epoch", "consumer_seek_1", "c.epoch := s.epochs;", ""),
    ("a purge leaves epochs as they are", "queue_end_oldest_1", "c.epoch := s.epochs;", ""),
    ("dead letters of a consumer that left count", "consumer_remove_1", "s.dead := s.dead - c.dead;", ""),
    ("retries come too early", "queue_fetch_retries_1", "AND o.retry_at <= v_now", ""),
    ("what nobody wants stays", "queue_end_unwanted_1", "s := waypost.queue_remove_1(s, v_unwanted);", ""),
    ("a cancelled message counts", "queue_cancel_1", "s.delayed := s.delayed - v_messages;", ""),
    ("a consumer is read to its end only", "queue_fetch_1", "WHERE c.outstanding > 0 AND", "WHERE false AND"),
)  # fmt: skip

_COURSES: Final = {"queue_settle_1": _BREAKS_AT_QUEUES, "dead_letters_redrive_1": _AT_LETTERS}

QUEUE_FAULTS: Final = tuple(
    Fault(name, function, right, wrong, _COURSES.get(function, _AT_QUEUES))
    for name, function, right, wrong in _OF_QUEUES
)
"""Those of queues."""


def script_with(fault: Fault) -> str:
    """Return the text of the function with a fault, to be run on a database with the right one."""
    begin = f"CREATE OR REPLACE FUNCTION waypost.{fault.function}("
    # The last one counts: some are replaced by the script of their part.
    script = [text for _, text in read_scripts() if begin in text][-1]
    text = begin + script.rpartition(begin)[2].partition("\nEND $$;")[0] + "\nEND $$;"
    assert fault.right in text, f"the text of {fault.function} has changed: {fault.right!r} is not in it"
    return text.replace(fault.right, fault.wrong, 1)
