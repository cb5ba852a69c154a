-- What becomes of messages: settled, to be tried again, given up. Under the lock of the queue.

-- Let a consumer be done with messages, above the floor; returns those that it was not done with before.
CREATE OR REPLACE FUNCTION waypost.consumer_finish_1(
    s waypost.queue_state, INOUT c waypost.consumer_state, p_positions bigint[], OUT finished bigint[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_gone record;
    v_beyond bigint[];
    v_last bigint;
    v_passed record;
    v_done bigint[];
BEGIN
    finished := '{}';
    IF c.outstanding > 0 THEN
        SELECT * INTO v_gone FROM waypost.outstanding_delete_1(c.ledger, s.floor, p_positions);
        IF v_gone.messages > 0 THEN
            finished := v_gone.positions;
            c := waypost.consumer_released_1(c, s.floor, v_gone.messages, v_gone.retrying, v_gone.first);
        END IF;
    END IF;
    IF s.for_all = c.passed THEN
        RETURN;
    END IF;
    SELECT array_agg(DISTINCT m.position), max(m.position) INTO v_beyond, v_last
        FROM unnest(p_positions) AS u (position) CROSS JOIN LATERAL (
            SELECT * FROM waypost.message WHERE queue = s.queue AND position = u.position OFFSET 0) m
        WHERE u.position > greatest(c.frontier, s.floor) AND (m.consumer IS NULL OR m.consumer = c.consumer);
    IF v_last IS NULL THEN
        RETURN;
    END IF;
    c := waypost.consumer_pass_1(s, c, v_last, v_beyond);
    finished := finished || v_beyond;
END $$;

-- Move a consumer's frontier to a message beyond it; what is not done up to there is outstanding from now on.
CREATE OR REPLACE FUNCTION waypost.consumer_pass_1(
    s waypost.queue_state, INOUT c waypost.consumer_state, p_upto bigint, p_done bigint[]
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_after bigint := greatest(c.frontier, s.floor);
    v_overtaken record;
BEGIN
    IF cardinality(p_done) < p_upto - v_after THEN
        WITH overtaken AS (
            INSERT INTO waypost.outstanding (ledger, position, queue, key)
                SELECT c.ledger, position, queue, key FROM waypost.message
                WHERE queue = s.queue AND position > v_after AND position <= p_upto
                AND (consumer IS NULL OR consumer = c.consumer) AND position <> ALL (p_done)
            RETURNING position
        ) SELECT count(*) AS messages, min(position) AS first INTO v_overtaken FROM overtaken;
        IF v_overtaken.messages > 0 THEN
            IF c.outstanding = 0 THEN
                c.low := v_overtaken.first;
            END IF;
            c.outstanding := c.outstanding + v_overtaken.messages;
            c.passed := c.passed + v_overtaken.messages;
        END IF;
    END IF;
    c.passed := c.passed + cardinality(p_done);
    c.frontier := p_upto;
END $$;

-- Count what an attempt has more than the one before; returns the history with it.
CREATE OR REPLACE FUNCTION waypost.consumer_count_1(
    INOUT c waypost.consumer_state, p_attempt jsonb, p_failures bigint, p_losses bigint, INOUT history jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_kept CONSTANT int := 32;
    v_failed bigint := greatest(0, (p_attempt ->> 'failures')::bigint - p_failures);
    v_item jsonb := p_attempt -> 'item';
BEGIN
    c.failed := c.failed + v_failed;
    c.redelivered := c.redelivered + v_failed + greatest(0, (p_attempt ->> 'losses')::bigint - p_losses);
    history := coalesce(history, '[]');
    IF history -> -1 IS DISTINCT FROM v_item THEN
        history := history || jsonb_build_array(v_item);
        WHILE jsonb_array_length(history) > v_kept LOOP
            history := history - 0;
        END LOOP;
    END IF;
END $$;

-- Store how an attempt ended. Returns whether the message was there, and not settled, and its history.
CREATE OR REPLACE FUNCTION waypost.consumer_attempt_1(
    s waypost.queue_state, INOUT c waypost.consumer_state, p_attempt jsonb, p_bury boolean, OUT unsettled boolean,
    OUT history jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_position bigint := (p_attempt ->> 'position')::bigint;
    v_row record;
    v_counted record;
BEGIN
    unsettled := false;
    IF v_position <= s.floor THEN
        RETURN;
    END IF;
    IF v_position > c.frontier THEN
        PERFORM FROM waypost.message WHERE queue = s.queue AND position = v_position
            AND (consumer IS NULL OR consumer = c.consumer);
        IF FOUND THEN
            c := waypost.consumer_pass_1(s, c, v_position, '{}');
        END IF;
    END IF;
    SELECT o.failures, o.losses, o.retry_at, coalesce(o.history, m.history) AS history INTO v_row
        FROM waypost.outstanding o CROSS JOIN LATERAL (
            SELECT l.history FROM waypost.message l WHERE l.queue = o.queue AND l.position = o.position OFFSET 0) m
        WHERE o.ledger = c.ledger AND o.position = v_position;
    IF v_row.failures IS NULL THEN
        RETURN;
    END IF;
    unsettled := true;
    SELECT * INTO v_counted FROM waypost.consumer_count_1(c, p_attempt, v_row.failures, v_row.losses, v_row.history);
    c := v_counted.c;
    history := v_counted.history;
    IF p_bury THEN
        RETURN;
    END IF;
    IF v_row.retry_at = 0 THEN
        c.retrying := c.retrying + 1;
    END IF;
    UPDATE waypost.outstanding o SET failures = (p_attempt ->> 'failures')::bigint,
        losses = (p_attempt ->> 'losses')::bigint, retry_at = (p_attempt ->> 'retry_at')::float8,
        breaks = (p_attempt ->> 'breaks')::bigint, breaks_since = (p_attempt ->> 'breaks_since')::bigint,
        deaths = (p_attempt ->> 'deaths')::bigint, history = v_counted.history
        WHERE o.ledger = c.ledger AND o.position = v_position;
END $$;

-- Whether outcomes of a node count: it owns the consumer, or nobody does. Held against a claim until the commit.
CREATE OR REPLACE FUNCTION waypost.consumer_is_ours_1(p_queue text, p_consumer text, p_node int)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_node int;
BEGIN
    SELECT node INTO v_node FROM waypost.consumer_owner WHERE queue = p_queue AND consumer = p_consumer FOR SHARE;
    RETURN coalesce(v_node, 0) IN (0, p_node);
END $$;

-- Store outcomes of a consumer. Returns its state, or that there is no such consumer.
CREATE OR REPLACE FUNCTION waypost.queue_outcome_1(
    INOUT s waypost.queue_state, p_queue text, p_node int, p_outcome jsonb, p_keep_s float8, p_now float8,
    OUT result jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_name text := p_outcome ->> 'consumer';
    v_consumer bigint;
    c waypost.consumer_state;
    v_attempt jsonb;
    v_done record;
    v_ended bigint[] := '{}';
    v_positions bigint[];
BEGIN
    SELECT id INTO v_consumer FROM waypost.consumer WHERE queue = s.queue AND name = v_name;
    IF v_consumer IS NULL THEN
        result := jsonb_build_object('unknown', v_name);
        RETURN;
    END IF;
    c := waypost.consumer_load_1(v_consumer);
    IF c.epoch = (p_outcome ->> 'epoch')::bigint
        AND (p_node IS NULL OR waypost.consumer_is_ours_1(p_queue, v_name, p_node))
    THEN
        IF p_outcome ? 'settle' THEN
            v_positions := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(p_outcome -> 'settle') e);
            SELECT * INTO v_done FROM waypost.consumer_finish_1(s, c, v_positions);
            c := v_done.c;
            v_ended := v_done.finished;
            c.settled := c.settled + cardinality(v_ended);
            c.active_at := p_now;
        ELSE
            FOR v_attempt IN SELECT * FROM jsonb_array_elements(coalesce(p_outcome -> 'retry', p_outcome -> 'bury')) LOOP
                SELECT * INTO v_done FROM waypost.consumer_attempt_1(s, c, v_attempt, p_outcome ? 'bury');
                c := v_done.c;
                IF v_done.unsettled AND p_outcome ? 'bury' THEN
                    INSERT INTO waypost.dead_letter (queue, consumer, position, enqueued_at, died_at, failures, losses,
                        sum, size, id, key, reason, exception, history, headers, record)
                        SELECT m.queue, v_consumer, m.position, m.enqueued_at, (v_attempt -> 'item' ->> 0)::float8,
                            (v_attempt ->> 'failures')::bigint, (v_attempt ->> 'losses')::bigint, m.sum, m.size, m.id,
                            m.key, v_attempt -> 'item' ->> 2, v_attempt -> 'item' ->> 3, v_done.history, m.headers,
                            m.record
                        FROM waypost.message m
                        WHERE m.queue = s.queue AND m.position = (v_attempt ->> 'position')::bigint;
                    SELECT * INTO v_done
                        FROM waypost.consumer_finish_1(s, c, ARRAY[(v_attempt ->> 'position')::bigint]);
                    c := v_done.c;
                    v_ended := v_ended || v_done.finished;
                    c.dead := c.dead + 1;
                    s.dead := s.dead + 1;
                END IF;
            END LOOP;
        END IF;
        c := waypost.consumer_save_1(c, s);
        s := waypost.queue_end_unwanted_1(s, v_ended, p_keep_s);
    END IF;
    result := waypost.consumer_row_1(s, c);
END $$;

-- The hot writes of a queue, many as one: outcomes, then messages. No message of the same call is known to who
-- reports outcomes, so nobody can tell that order from the one in which they were asked for.
--
-- p_outcomes: objects with `consumer`, `epoch` and one of `settle` (positions), `retry`, `bury` (attempts).
-- p_bounds: where each request's messages begin in the arrays, from 1; one more at the end. NULL: no messages.
-- p_windows: the deduplication window of each message; NULL: none has one.
-- p_delays: NULL: none has one.
CREATE OR REPLACE FUNCTION waypost.queue_write_1(
    p_queue text, p_node int, p_incarnation bigint, p_batch bigint, p_defaults jsonb, p_outcomes jsonb, p_bounds int[],
    p_bytes bigint, p_windows float8[], p_ids text[], p_records bytea[], p_keys text[], p_ttls float8[],
    p_delays float8[], p_headers text[], p_sums bigint[]
) RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    s waypost.queue_state;
    v_before waypost.queue_state;
    v_queue int;
    v_limits record;
    v_now float8;
    v_done record;
    v_outcomes jsonb := '[]';
    v_results jsonb := '[]';
    v_first bigint;
    v_made boolean := false;
    v_outcome jsonb;
    v_answer jsonb;
    a int;
    b int;
BEGIN
    PERFORM waypost.begin_write_1();
    v_queue := waypost.queue_lock_1(p_queue);
    IF v_queue IS NULL AND p_bounds IS NOT NULL THEN
        v_queue := waypost.queue_make_1(p_queue);
        v_made := true;
    END IF;
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    v_now := waypost.now_1();
    IF v_queue IS NOT NULL THEN
        s := waypost.queue_load_1(v_queue);
        SELECT * INTO v_limits FROM waypost.queue_limits_1(v_queue, p_defaults);
    END IF;
    v_before := s;
    FOR v_outcome IN SELECT * FROM jsonb_array_elements(p_outcomes) LOOP
        IF v_queue IS NULL THEN
            v_outcomes := v_outcomes || jsonb_build_object('unknown', v_outcome ->> 'consumer');
            CONTINUE;
        END IF;
        SELECT * INTO v_done FROM waypost.queue_outcome_1(
            s, p_queue, p_node, v_outcome, v_limits.keep_settled_s, v_now);
        s := v_done.s;
        v_outcomes := v_outcomes || jsonb_build_array(v_done.result);
    END LOOP;
    IF p_bounds IS NOT NULL THEN
        IF p_delays IS NULL THEN
            v_first := s.top + 1;
            SELECT * INTO v_done FROM waypost.queue_enqueue_plain_1(s, p_node, v_now, v_limits.max_messages,
                v_limits.max_bytes, p_bytes, p_windows, p_ids, p_records, p_keys, p_ttls, p_headers, p_sums);
            s := v_done.s;
            IF NOT v_done.done THEN
                v_first := NULL;
            END IF;
        END IF;
        IF v_first IS NULL THEN
            FOR i IN 1 .. cardinality(p_bounds) - 1 LOOP
                a := p_bounds[i];
                b := p_bounds[i + 1] - 1;
                SELECT * INTO v_done FROM waypost.queue_enqueue_1(s, p_node, v_now, v_limits.max_messages,
                    v_limits.max_bytes, v_limits.overflow, v_limits.keep_settled_s, coalesce(p_windows[a], 0), true,
                    p_ids[a:b], p_records[a:b], p_keys[a:b], p_ttls[a:b], p_delays[a:b], p_headers[a:b], p_sums[a:b]);
                s := v_done.s;
                v_results := v_results || jsonb_build_array(v_done.result);
            END LOOP;
        END IF;
    END IF;
    IF v_made AND s.top = 0 AND s.delayed = 0 THEN
        -- It was made for messages that were all refused.
        DELETE FROM waypost.queue_state WHERE queue = v_queue;
        DELETE FROM waypost.queue WHERE id = v_queue;
    ELSIF s IS DISTINCT FROM v_before THEN
        PERFORM waypost.queue_save_1(s);
    END IF;
    v_answer := jsonb_build_object('now', v_now, 'first', v_first, 'outcomes', v_outcomes, 'results', v_results);
    INSERT INTO waypost.write_mark (node, incarnation, batch, results, at)
        VALUES (p_node, p_incarnation, p_batch, v_answer, v_now);
    RETURN v_answer;
END $$;
