"""Who is dead by what an observer saw, on a clock that the test moves."""

from __future__ import annotations

from waypost.storage.postgres.nodes.observing import BEAT_S, DEAD_S, Beat, Observer, Seen, Verdict


class Watcher:
    """Node 1, which sees the others."""

    def __init__(self) -> None:
        self.observer = Observer()
        self.now = 1000.0
        self.counters: dict[int, int] = {2: 1}
        self.stuck: dict[int, float] = {}
        self.incarnations: dict[int, int] = {}

    def beat(self, pause_s: float = BEAT_S, took_s: float = 0.01, *, is_fenced: bool = False) -> Verdict:
        self.now += pause_s
        sent_at, self.now = self.now, self.now + took_s
        nodes = tuple(
            Seen(number, f"n{number}", self.incarnations.get(number, 1), 0, "", counter, self.stuck.get(number, 0.0))
            for number, counter in {1: 1, **self.counters}.items()
        )
        return self.observer.see(Beat(sent_at, self.now, 1, is_fenced, 0.0, 0.0, 0.0, 1, nodes), 1)

    def beats_until_dead(self, most_s: float = 60.0) -> float:
        began = self.now
        while self.now - began < most_s:
            if self.beat(0.5).dead:
                return self.now - began
        raise AssertionError("nobody is dead")

    def rise(self, number: int = 2) -> None:
        self.counters[number] += 1


def test_a_counter_that_stands_still_for_six_seconds_is_a_death() -> None:
    watcher = Watcher()
    for _ in range(10):
        watcher.rise()
        assert watcher.beat().dead == ()
    assert DEAD_S <= watcher.beats_until_dead() < DEAD_S + 1.5


def test_a_counter_that_rises_in_time_is_none() -> None:
    watcher = Watcher()
    for _ in range(20):
        watcher.rise()
        for _ in range(2):
            assert watcher.beat().dead == ()


def test_whoever_has_just_come_declares_nobody_dead_before_six_seconds() -> None:
    watcher = Watcher()
    assert watcher.beats_until_dead() >= DEAD_S


def test_a_beat_of_its_own_that_failed_begins_the_watch_anew() -> None:
    watcher = Watcher()
    watcher.beat()
    watcher.beat()
    watcher.beat()
    watcher.observer.missed()
    assert watcher.beats_until_dead() >= DEAD_S


def test_an_engine_that_was_away_kills_nobody() -> None:
    watcher = Watcher()
    watcher.rise()
    watcher.beat()
    watcher.now += 20.0  # neither this node's beats came through nor those of others
    assert watcher.beat() == Verdict(pause_s=BEAT_S)
    watcher.rise()
    assert watcher.beat().dead == ()


def test_an_engine_that_stood_still_over_a_beat_kills_nobody() -> None:
    watcher = Watcher()
    watcher.rise()
    watcher.beat()
    assert watcher.beat(took_s=20.0).dead == ()
    assert watcher.beats_until_dead() >= DEAD_S


def test_an_observer_that_stood_still_kills_nobody() -> None:
    watcher = Watcher()
    for pause_s in (2.0, 2.0, 10.0, 2.0, 2.0):  # it was frozen, or its machine slept
        assert watcher.beat(pause_s).dead == ()


def test_a_counter_that_went_back_has_moved() -> None:
    watcher = Watcher()
    watcher.counters[2] = 100
    for _ in range(4):
        watcher.beat(1.0)
    watcher.counters[2] = 90  # a crash of the engine takes beats back
    assert watcher.beats_until_dead() >= DEAD_S


def test_another_incarnation_is_a_sign_of_life() -> None:
    watcher = Watcher()
    for _ in range(4):
        watcher.beat(1.0)
    watcher.incarnations[2] = 2
    assert watcher.beats_until_dead() >= DEAD_S


def test_two_missing_beats_are_enough_where_the_connection_is_gone() -> None:
    watcher = Watcher()
    watcher.rise()
    watcher.beat()
    missing_after = next(watcher.now for _ in range(100) if watcher.beat(0.5).missing) - 1002.01
    assert 2 * BEAT_S <= missing_after < DEAD_S
    assert watcher.beats_until_dead() < DEAD_S - 2 * BEAT_S + 1.0


def test_it_looks_more_often_while_a_beat_is_missing() -> None:
    watcher = Watcher()
    watcher.rise()
    assert watcher.beat().pause_s == BEAT_S
    watcher.beat()
    assert watcher.beat().pause_s < BEAT_S
    watcher.rise()
    assert watcher.beat().pause_s == BEAT_S


def test_an_event_loop_that_stands_still_is_seen_while_the_beats_go_on() -> None:
    watcher = Watcher()
    watcher.stuck[2] = 5.0
    assert watcher.beat().stuck == ()
    watcher.rise()
    watcher.stuck[2] = 7.0
    verdict = watcher.beat()
    assert [one.id for one in verdict.stuck] == [2]
    assert verdict.dead == ()


def test_whoever_is_dead_for_others_declares_nobody_dead() -> None:
    watcher = Watcher()
    for _ in range(10):
        assert watcher.beat(1.0, is_fenced=True) == Verdict()
    assert watcher.beats_until_dead() >= DEAD_S
