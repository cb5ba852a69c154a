-- Consumers that come, move and go. Under the lock of the queue.

-- How many messages beyond a consumer's frontier are for it; without reading them, if it can be helped.
CREATE OR REPLACE FUNCTION waypost.consumer_after_1(s waypost.queue_state, c waypost.consumer_state) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_others bigint;
BEGIN
    IF c.frontier >= s.top OR s.messages = 0 THEN
        RETURN 0;
    END IF;
    SELECT count(*) INTO v_others FROM waypost.consumer a
        JOIN waypost.message m ON m.consumer = a.id AND m.position > greatest(c.frontier, s.floor) AND m.queue = s.queue
        WHERE a.queue = s.queue AND a.id <> c.consumer;
    IF c.frontier <= s.floor THEN
        RETURN s.messages - v_others;
    ELSIF s.messages = s.top - s.floor THEN
        RETURN s.top - c.frontier - v_others;
    END IF;
    RETURN (SELECT count(*) FROM waypost.message WHERE queue = s.queue AND position > c.frontier) - v_others;
END $$;

-- The position before the first message that got its position at a time or later.
CREATE OR REPLACE FUNCTION waypost.queue_before_time_1(s waypost.queue_state, p_time float8) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_low bigint := s.floor + 1;
    v_high bigint := s.top + 1;
    v_one record;
    v_middle bigint;
BEGIN
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        SELECT position, enqueued_at INTO v_one FROM waypost.message WHERE queue = s.queue AND position >= v_middle
            ORDER BY position LIMIT 1;
        IF v_one.position IS NULL OR v_one.enqueued_at >= p_time THEN
            v_high := v_middle;
        ELSE
            v_low := v_one.position + 1;
        END IF;
    END LOOP;
    RETURN v_low - 1;
END $$;

-- Put a consumer at which nothing is outstanding before a place: `position`, `time`, or `at`, "oldest" or "new".
CREATE OR REPLACE FUNCTION waypost.consumer_place_1(
    s waypost.queue_state, INOUT c waypost.consumer_state, p_place jsonb
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    c.frontier := greatest(s.floor, least(s.top, CASE
        WHEN p_place ? 'position' THEN greatest((p_place ->> 'position')::bigint, 1) - 1
        WHEN p_place ? 'time' THEN waypost.queue_before_time_1(s, (p_place ->> 'time')::float8)
        WHEN p_place ->> 'at' = 'new' THEN s.top
        ELSE s.floor END));
    c.passed := s.for_all - waypost.consumer_after_1(s, c);
END $$;

-- Let nothing be outstanding at a consumer any more; the rows are removed in steps, with what nobody wants.
CREATE OR REPLACE FUNCTION waypost.consumer_let_go_1(s waypost.queue_state, INOUT c waypost.consumer_state)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF c.outstanding > 0 THEN
        PERFORM waypost.sweep_note_1(s.queue, 'ledger', c.low - 1, c.frontier, c.ledger);
        c.ledger := nextval('waypost.ledger');
        c.outstanding := 0;
        c.retrying := 0;
        c.low := 0;
    END IF;
END $$;

-- End the messages between two positions that nobody wants any more: a consumer has passed them, or is gone.
-- With p_may_mark, nothing is kept that no consumer ever wanted.
CREATE OR REPLACE FUNCTION waypost.queue_end_passed_1(
    INOUT s waypost.queue_state, p_after bigint, p_upto bigint, p_may_mark boolean, p_keep_s float8
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_wanted bigint;
    v_done record;
BEGIN
    IF s.consumers = 0 OR s.messages = 0 THEN
        RETURN;
    ELSIF p_keep_s > 0 THEN
        IF p_upto > p_after THEN
            INSERT INTO waypost.settled (queue, first, at, last)
                VALUES (s.queue, p_after + 1, waypost.now_1(), p_upto) ON CONFLICT (queue, first, at)
                DO UPDATE SET last = greatest(settled.last, excluded.last);
        END IF;
        RETURN;
    END IF;
    IF p_may_mark THEN
        SELECT min(CASE WHEN t.outstanding > 0 THEN t.low - 1 WHEN t.passed = s.for_all THEN s.top ELSE t.frontier END)
            INTO v_wanted FROM waypost.consumer a CROSS JOIN LATERAL (
                SELECT outstanding, low, frontier, passed FROM waypost.consumer_state WHERE consumer = a.id
                ORDER BY n DESC LIMIT 1) t
            WHERE a.queue = s.queue;
        SELECT * INTO v_done FROM waypost.queue_end_oldest_1(s, v_wanted, NULL, NULL, 'unwanted');
        s := v_done.s;
    END IF;
    IF p_upto > greatest(p_after, s.floor) AND s.messages > 0 THEN
        PERFORM waypost.sweep_note_1(s.queue, 'between', greatest(p_after, s.floor), p_upto, NULL);
    END IF;
END $$;

-- Whether no message is kept before the first one that a consumer wants.
CREATE OR REPLACE FUNCTION waypost.consumer_wants_oldest_1(s waypost.queue_state, c waypost.consumer_state)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN s.messages = 0 OR s.floor + 1 >= CASE WHEN c.outstanding > 0 THEN c.low ELSE c.frontier + 1 END;
END $$;

CREATE OR REPLACE FUNCTION waypost.consumer_add_1(
    INOUT s waypost.queue_state, p_name text, p_place jsonb, p_now float8, OUT result jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_consumer bigint;
    c waypost.consumer_state;
BEGIN
    SELECT id INTO v_consumer FROM waypost.consumer WHERE queue = s.queue AND name = p_name;
    IF v_consumer IS NULL THEN
        INSERT INTO waypost.consumer (queue, name) VALUES (s.queue, p_name) RETURNING id INTO v_consumer;
        s.epochs := s.epochs + 1;
        s.consumers := s.consumers + 1;
        c := ROW(v_consumer, 0, s.epochs, s.top, s.for_all, nextval('waypost.ledger'), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            p_now)::waypost.consumer_state;
        c := waypost.consumer_place_1(s, c, p_place);
    ELSE
        c := waypost.consumer_load_1(v_consumer);
        c.active_at := p_now;
    END IF;
    c := waypost.consumer_save_1(c, s);
    result := waypost.consumer_row_1(s, c);
END $$;

CREATE OR REPLACE FUNCTION waypost.consumer_seek_1(
    INOUT s waypost.queue_state, p_consumer bigint, p_place jsonb, p_keep_s float8, OUT result jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c waypost.consumer_state := waypost.consumer_load_1(p_consumer);
    v_may_mark boolean := waypost.consumer_wants_oldest_1(s, c);
    v_former bigint := c.frontier;
BEGIN
    s.epochs := s.epochs + 1;
    c.epoch := s.epochs;
    c := waypost.consumer_let_go_1(s, c);
    c.lost := 0;
    c.lost_first := 0;
    c.lost_last := 0;
    c := waypost.consumer_place_1(s, c, p_place);
    v_former := greatest(v_former, s.floor);
    c := waypost.consumer_save_1(c, s);
    s := waypost.queue_end_passed_1(s, v_former, c.frontier, v_may_mark, p_keep_s);
    s := waypost.sweep_soon_1(s, p_keep_s);
    c := waypost.consumer_load_1(p_consumer);
    result := waypost.consumer_row_1(s, c);
END $$;

-- Let a consumer be gone at once, and end what only it had not settled, unless it is the last one. Its row stays, where
-- no query of a queue finds it, until what belongs to it was removed in steps.
CREATE OR REPLACE FUNCTION waypost.consumer_remove_1(INOUT s waypost.queue_state, p_consumer bigint, p_keep_s float8)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c waypost.consumer_state := waypost.consumer_load_1(p_consumer);
    v_may_mark boolean := waypost.consumer_wants_oldest_1(s, c);
BEGIN
    c := waypost.consumer_let_go_1(s, c);
    UPDATE waypost.consumer SET queue = -queue, name = id::text WHERE id = p_consumer;
    s.consumers := s.consumers - 1;
    s.dead := s.dead - c.dead;
    PERFORM waypost.sweep_note_1(s.queue, 'consumer', 0, 0, p_consumer);
    s := waypost.queue_end_passed_1(s, greatest(c.frontier, s.floor), s.top, v_may_mark, p_keep_s);
    s := waypost.sweep_soon_1(s, p_keep_s);
END $$;
