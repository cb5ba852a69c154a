"""Deliberate faults of our SQL, each of which the trace check must find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.storage.postgres.trace.walk import Course
from waypost.storage.postgres.schema import read_scripts

__all__ = ["FAULTS", "Fault", "script_with"]


_USUAL: Final = Course(deadline_s=20)
_BREAKS: Final = Course(breaks=0.3, prefers=("several",), deadline_s=20)
_HANDS_OVER: Final = Course(prefers=("session",), acts=(0, 3, 4, 7, 8), deadline_s=20)


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
          "AND false"),
    Fault("a session is attached that another one claims", "attach_session_1",
          "RETURN '{\"error\": \"WP002\"}';", ""),
    Fault("an earlier claimer is not told", "claim_session_1", "OR s.claimer <> p_node", ""),
    Fault("a claim waits for nobody", "claim_session_1", "s.home <> p_node AND s.handed IS NULL", "false"),
    Fault("a session is opened twice", "open_session_1", "IF NOT FOUND THEN", "IF false THEN"),
    Fault("any node saves a session", "session_operation_1", "s.home IS NULL OR s.home = p_node", "true"),
    Fault("nothing is handed over", "session_operation_1", "SET handed = p_record", "SET handed = ''",
          _HANDS_OVER),
    Fault("sessions of a dead node stay attached", "sessions_of_dead_1",
          "is_orphan = s.home_attached", "is_orphan = false"),
    Fault("a node that comes back has none of its sessions", "sessions_renewed_1", "home = p_node,", "home = NULL,"),
    Fault("an incarnation stays", "renew_1", "incarnation + 1", "incarnation"),
    Fault("a dead node keeps its consumers", "node_ended_1", "PERFORM waypost.free_1(p_node);", ""),
    Fault("a consumer has two owners", "claim_consumer_1", "IF v_owner IS NULL THEN", "IF true THEN"),
    Fault("any node gives up a consumer", "release_consumer_1", "AND node = p_node;", ";"),
)  # fmt: skip


def script_with(fault: Fault) -> str:
    """Return the text of the function with a fault, to be run on a database with the right one."""
    begin = f"CREATE OR REPLACE FUNCTION waypost.{fault.function}("
    # The last one counts: some are replaced by the script of their part.
    script = [text for _, text in read_scripts() if begin in text][-1]
    text = begin + script.rpartition(begin)[2].partition("\nEND $$;")[0] + "\nEND $$;"
    assert fault.right in text, f"the text of {fault.function} has changed: {fault.right!r} is not in it"
    return text.replace(fault.right, fault.wrong, 1)
