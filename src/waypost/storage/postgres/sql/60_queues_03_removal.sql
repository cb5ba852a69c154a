-- Messages that go: settled by all, dropped by a limit, expired, or purged. Under the lock of the queue.

-- Remove messages that are there.
CREATE OR REPLACE FUNCTION waypost.queue_remove_1(INOUT s waypost.queue_state, p_positions bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_gone record;
BEGIN
    SELECT * INTO v_gone FROM waypost.messages_delete_1(s.queue, p_positions);
    s.messages := s.messages - v_gone.messages;
    s.bytes := s.bytes - v_gone.bytes;
    IF s.messages = 0 THEN
        s.floor := s.top;
    ELSIF v_gone.first = s.floor + 1 THEN
        s.floor := waypost.message_after_1(s.queue, s.floor, NULL) - 1;
    END IF;
END $$;

-- Those of some messages that no consumer wants: all they are for have passed them, and they are outstanding at none.
-- The states of consumers are saved.
CREATE OR REPLACE FUNCTION waypost.queue_unwanted_1(s waypost.queue_state, p_positions bigint[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_passed bigint;
BEGIN
    SELECT min((SELECT t.frontier FROM waypost.consumer_state t WHERE t.consumer = a.id ORDER BY t.n DESC LIMIT 1))
        INTO v_passed FROM waypost.consumer a WHERE a.queue = s.queue;
    RETURN (SELECT array_agg(m.position ORDER BY m.position) FROM unnest(p_positions) AS u (position)
        CROSS JOIN LATERAL (
            SELECT * FROM waypost.message WHERE queue = s.queue AND position = u.position OFFSET 0) m
        WHERE u.position > s.floor
        AND CASE WHEN m.consumer IS NULL THEN v_passed IS NULL OR m.position <= v_passed
            ELSE m.position <= coalesce((SELECT t.frontier FROM waypost.consumer_state t
                JOIN waypost.consumer a ON a.id = t.consumer AND a.queue = s.queue
                WHERE t.consumer = m.consumer ORDER BY t.n DESC LIMIT 1), m.position) END
        AND NOT EXISTS (
            SELECT FROM waypost.outstanding o WHERE o.queue = s.queue AND o.position = m.position OFFSET 0));
END $$;

-- Remove messages that no consumer wants any more, or note them as settled if the queue keeps such ones for a time.
CREATE OR REPLACE FUNCTION waypost.queue_end_unwanted_1(
    INOUT s waypost.queue_state, p_positions bigint[], p_keep_s float8
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_unwanted bigint[];
BEGIN
    IF coalesce(cardinality(p_positions), 0) = 0 THEN
        RETURN;
    END IF;
    v_unwanted := waypost.queue_unwanted_1(s, p_positions);
    IF v_unwanted IS NULL THEN
        RETURN;
    ELSIF p_keep_s > 0 THEN
        INSERT INTO waypost.settled (queue, first, at, last)
            SELECT s.queue, min(position), waypost.now_1(), max(position)
            FROM unnest(v_unwanted) WITH ORDINALITY AS u (position, i) GROUP BY position - i
            ON CONFLICT (queue, first, at) DO UPDATE SET last = greatest(settled.last, excluded.last);
    ELSE
        s := waypost.queue_remove_1(s, v_unwanted);
    END IF;
END $$;

-- Remove messages, settled or not. With `p_lose` consumers are told what they lost. Returns who had not settled some.
CREATE OR REPLACE FUNCTION waypost.queue_drop_1(
    INOUT s waypost.queue_state, p_positions bigint[], p_lose boolean, OUT losers text[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_one record;
    c waypost.consumer_state;
    v_held record;
    v_fresh record;
BEGIN
    losers := '{}';
    IF coalesce(cardinality(p_positions), 0) = 0 THEN
        RETURN;
    END IF;
    FOR v_one IN SELECT id, name FROM waypost.consumer WHERE queue = s.queue ORDER BY name LOOP
        c := waypost.consumer_load_1(v_one.id);
        SELECT * INTO v_held FROM waypost.outstanding_delete_1(c.ledger, s.floor, p_positions);
        SELECT count(*) AS messages, min(m.position) AS first, max(m.position) AS last INTO v_fresh
            FROM unnest(p_positions) AS u (position) CROSS JOIN LATERAL (
                SELECT * FROM waypost.message WHERE queue = s.queue AND position = u.position OFFSET 0) m
            WHERE u.position > c.frontier AND (m.consumer IS NULL OR m.consumer = c.consumer);
        CONTINUE WHEN v_held.messages + v_fresh.messages = 0;
        IF v_held.messages > 0 THEN
            c := waypost.consumer_released_1(c, s.floor, v_held.messages, v_held.retrying, v_held.first);
        END IF;
        c.passed := c.passed + v_fresh.messages;
        IF p_lose THEN
            c := waypost.consumer_lose_1(c, v_held.messages + v_fresh.messages, least(v_held.first, v_fresh.first),
                greatest(v_held.last, v_fresh.last));
        END IF;
        c := waypost.consumer_save_1(c, s);
        losers := losers || v_one.name;
    END LOOP;
    PERFORM waypost.outstanding_delete_all_1(s.queue, p_positions);
    s := waypost.queue_remove_1(s, p_positions);
    IF p_lose THEN
        s.dropped := s.dropped + cardinality(p_positions);
    END IF;
END $$;

-- Note what a consumer lost, and is to be told of.
CREATE OR REPLACE FUNCTION waypost.consumer_lose_1(
    INOUT c waypost.consumer_state, p_messages bigint, p_first bigint, p_last bigint
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_messages > 0 THEN
        c.lost_first := CASE WHEN c.lost > 0 THEN least(c.lost_first, p_first) ELSE p_first END;
        c.lost_last := greatest(c.lost_last, p_last);
        c.lost := c.lost + p_messages;
    END IF;
END $$;

-- End a part of a run of settled messages; those that a consumer wants again, or that were settled later, stay.
-- Returns whether more of the run is left.
CREATE OR REPLACE FUNCTION waypost.settled_end_1(INOUT s waypost.queue_state, p_first bigint, p_at float8, OUT more boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_step CONSTANT int := 500;
    v_last bigint;
    v_positions bigint[];
BEGIN
    DELETE FROM waypost.settled WHERE queue = s.queue AND first = p_first AND at = p_at RETURNING last INTO v_last;
    SELECT array_agg(position) INTO v_positions FROM (
        SELECT position FROM waypost.message WHERE queue = s.queue AND position > s.floor
        AND position BETWEEN p_first AND v_last ORDER BY position LIMIT v_step) m;
    more := cardinality(v_positions) = v_step AND v_positions[v_step] < v_last;
    IF more THEN
        INSERT INTO waypost.settled (queue, first, at, last) VALUES (s.queue, v_positions[v_step] + 1, p_at, v_last)
            ON CONFLICT (queue, first, at) DO UPDATE SET last = greatest(settled.last, excluded.last);
    END IF;
    more := coalesce(more, false);
    SELECT array_agg(position) INTO v_positions FROM unnest(waypost.queue_unwanted_1(s, v_positions)) u (position)
        WHERE NOT EXISTS (SELECT FROM waypost.settled t WHERE t.queue = s.queue AND t.first <= u.position
            AND t.last >= u.position AND t.at > p_at);
    IF v_positions IS NOT NULL THEN
        s := waypost.queue_remove_1(s, v_positions);
    END IF;
END $$;

-- Remove as many kept messages as it takes for so many more messages and bytes, the oldest first.
CREATE OR REPLACE FUNCTION waypost.settled_free_1(INOUT s waypost.queue_state, p_messages bigint, p_bytes bigint)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_step CONSTANT int := 500;
    v_run record;
    v_one record;
    v_found bigint[];
    v_chosen bigint[];
    v_messages bigint := p_messages;
    v_bytes bigint := p_bytes;
    v_whole boolean;
BEGIN
    WHILE v_messages > 0 OR v_bytes > 0 LOOP
        SELECT first, at, last INTO v_run FROM waypost.settled WHERE queue = s.queue ORDER BY first LIMIT 1;
        EXIT WHEN v_run.first IS NULL;
        SELECT array_agg(position) INTO v_found FROM (
            SELECT position FROM waypost.message WHERE queue = s.queue AND position > s.floor
            AND position BETWEEN v_run.first AND v_run.last ORDER BY position LIMIT v_step) m;
        v_whole := coalesce(cardinality(v_found), 0) < v_step;
        v_chosen := '{}';
        FOR v_one IN SELECT m.position, m.size
            FROM unnest(waypost.queue_unwanted_1(s, v_found)) WITH ORDINALITY AS u (position, i) CROSS JOIN LATERAL (
                SELECT * FROM waypost.message WHERE queue = s.queue AND position = u.position OFFSET 0) m ORDER BY u.i
        LOOP
            IF v_messages <= 0 AND v_bytes <= 0 THEN
                v_whole := false;
                EXIT;
            END IF;
            v_chosen := v_chosen || v_one.position;
            v_messages := v_messages - 1;
            v_bytes := v_bytes - v_one.size;
        END LOOP;
        DELETE FROM waypost.settled WHERE queue = s.queue AND first = v_run.first AND at = v_run.at;
        IF NOT v_whole THEN
            INSERT INTO waypost.settled (queue, first, at, last)
                SELECT s.queue, f, v_run.at, v_run.last FROM (SELECT CASE WHEN v_messages <= 0 AND v_bytes <= 0
                    THEN v_chosen[cardinality(v_chosen)] ELSE v_found[v_step] END + 1 AS f) a WHERE f <= v_run.last
                ON CONFLICT (queue, first, at) DO UPDATE SET last = greatest(settled.last, excluded.last);
        END IF;
        s := waypost.queue_remove_1(s, v_chosen);
    END LOOP;
END $$;

-- End the oldest messages, up to a position, or, with limits, as many as are beyond them: one mark however many they
-- are. `purged`: who had not settled them begins another epoch. `lost`: they are told. `unwanted`: all had settled them.
CREATE OR REPLACE FUNCTION waypost.queue_end_oldest_1(
    INOUT s waypost.queue_state, p_upto bigint, p_messages bigint, p_bytes bigint, p_how text, OUT ended bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_upto bigint := least(p_upto, s.top);
    v_bytes bigint;
    v_one record;
    c waypost.consumer_state;
    v_held record;
    v_fresh record;
    v_after bigint := s.floor;
BEGIN
    ended := 0;
    IF p_messages IS NOT NULL THEN
        IF p_messages <= 0 AND p_bytes <= 0 THEN
            RETURN;
        END IF;
        SELECT position INTO v_upto FROM (
            SELECT position, count(*) OVER w AS messages, sum(size) OVER w AS bytes FROM waypost.message
            WHERE queue = s.queue AND position > s.floor WINDOW w AS (ORDER BY position ROWS UNBOUNDED PRECEDING)
        ) m WHERE messages >= p_messages AND bytes >= p_bytes ORDER BY position LIMIT 1;
        v_upto := coalesce(v_upto, s.top);
    END IF;
    IF v_upto <= s.floor OR s.messages = 0 THEN
        RETURN;
    END IF;
    SELECT count(*), coalesce(sum(size), 0) INTO ended, v_bytes FROM waypost.message
        WHERE queue = s.queue AND position > s.floor AND position <= v_upto;
    s.messages := s.messages - ended;
    s.bytes := s.bytes - v_bytes;
    s.floor := coalesce(waypost.message_after_1(s.queue, v_upto, NULL) - 1, s.top);
    IF p_how = 'lost' THEN
        s.dropped := s.dropped + ended;
    END IF;
    FOR v_one IN SELECT id FROM waypost.consumer WHERE queue = s.queue LOOP
        c := waypost.consumer_load_1(v_one.id);
        SELECT count(*) AS messages, min(position) AS first, max(position) AS last INTO v_fresh FROM waypost.message
            WHERE queue = s.queue AND position > greatest(c.frontier, v_after) AND position <= v_upto
            AND (consumer IS NULL OR consumer = c.consumer);
        SELECT count(*) AS messages, count(*) FILTER (WHERE retry_at > 0) AS retrying, min(position) AS first,
            max(position) AS last INTO v_held FROM waypost.outstanding
            WHERE c.outstanding > 0 AND ledger = c.ledger AND position > v_after AND position <= v_upto;
        IF v_held.messages > 0 THEN
            c := waypost.consumer_released_1(c, s.floor, v_held.messages, v_held.retrying, v_held.first);
        END IF;
        c.passed := c.passed + v_fresh.messages;
        IF p_how = 'purged' AND v_held.messages + v_fresh.messages > 0 THEN
            s.epochs := s.epochs + 1;
            c.epoch := s.epochs;
        ELSIF p_how = 'lost' THEN
            c := waypost.consumer_lose_1(c, v_held.messages + v_fresh.messages, least(v_held.first, v_fresh.first),
                greatest(v_held.last, v_fresh.last));
        END IF;
        c.frontier := greatest(c.frontier, v_upto);
        c := waypost.consumer_save_1(c, s);
    END LOOP;
    PERFORM waypost.sweep_note_1(s.queue, 'messages', v_after, v_upto, NULL);
    PERFORM waypost.sweep_note_1(s.queue, 'outstanding', v_after, v_upto, NULL);
END $$;
