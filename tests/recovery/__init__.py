"""Recovery end to end: official JavaScript clients against real server processes, with SQLite unless stated.

The numbers are those of the issue "Recovery that never fails". What tests/interop shows already is not repeated
here; tests/server has the same over a model client, where each frame's moment can be chosen, tests/sim all of it over
a simulated network and disk.

=====================================================  ============================================================
 1. no event before the cut                             test_cuts: a_client_that_has_not_got_an_event_yet;
                                                        interop/test_recovery: what_was_missed_is_replayed
    two cuts without an event between                   test_cuts: two_cuts_without_an_event_between
    twenty cuts in a row                                test_cuts: twenty_cuts_in_a_row
 2. a string as the last argument, volatile or not      test_cuts: a_string_as_the_last_argument_just_before_the_cut,
                                                        a_volatile_event_moves_nothing_past_what_was_missed
 3. back before the server noticed, five times          test_cuts: back_five_times_before_the_server_noticed
    the old connection's late death                     test_cuts: the_old_connection_wakes_up_late;
                                                        faults/test_silence: it_comes_back_over_the_dead_connection
 4. while middleware or the connect handler waits       test_meanwhile: events_while_a_handler_waits,
                                                        cut_again_while_a_handler_waits
    while the replay is sent                            test_meanwhile: events_while_a_big_replay_is_sent,
                                                        the_connect_handler_emits_to_whom_it_recovers;
                                                        interop/test_recovery: cut_again_while_it_is_replayed_to
    while the client upgrades                           test_meanwhile: events_while_it_upgrades,
                                                        cut_while_it_upgrades
 5. kill -9 at random moments, thirty rounds            test_kills: thirty_kills_under_load
    SIGTERM likewise                                    test_kills: stops_under_load; interop/test_restarts
    the store put back to an older state                test_time_and_copies: an_older_copy_of_the_store,
                                                        the_copy_has_grown_past_the_client,
                                                        an_empty_store_in_its_place
    the clock moved by an hour both ways                test_time_and_copies: the_clock_moves_by_an_hour
 6. rooms by handlers, by the server, while away        test_membership: random_rooms,
                                                        what_the_server_does_while_it_is_away, rooms_outlive_a_kill
    except_, the sender excluded, several rooms         test_membership: random_rooms, who_was_excluded_then_stays_so
    namespaces independent                              test_membership: the_same_rooms_in_two_namespaces;
                                                        interop/test_recovery: namespaces_recover_each_on_its_own
 7. data, sid, rooms restored                           test_identity: everything_of_it_is_restored
    middleware runs                                     test_identity: middleware_runs_at_each_recovery
    a revoked token is refused                          test_identity: a_revoked_token
    a stolen pid is refused by the hook                 test_identity: a_stolen_pid,
                                                        a_stolen_pid_while_its_owner_is_away
 8. age, count, bytes; reason and counters              test_limits: what_has_fallen_out_is_told,
                                                        more_than_one_replay_brings, a_session_that_expires
    a quiet client is not lost                          test_limits: a_quiet_client_is_not_lost
 9. a client that doesn't read                          test_slow: a_client_that_reads_nothing,
                                                        it_stops_reading_in_the_middle_of_a_replay,
                                                        more_is_held_than_may_wait
10. everyone at once, a stop that spreads               test_crowd: everyone_at_once,
                                                        a_stop_lets_them_go_one_after_the_other;
                                                        bench/recovery.py with 5,000
11. durability="async"                                  test_async: what_a_kill_may_have_lost_is_told,
                                                        a_clean_restart_loses_nothing,
                                                        kills_under_load_give_no_offset_twice
=====================================================  ============================================================
"""
