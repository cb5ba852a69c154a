-- The writes of a queue that are rare, and dead letters.

-- Dead letters that match a filter, by number. A field of the filter that is not there matches all.
CREATE OR REPLACE FUNCTION waypost.dead_letters_1(
    p_queue int, p_filter jsonb, p_after bigint, p_upto bigint, p_most bigint
) RETURNS SETOF waypost.dead_letter LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off AS $$
DECLARE
    v_numbers bigint[];
    v_consumer bigint;
BEGIN
    IF p_filter ? 'numbers' THEN
        v_numbers := ARRAY(SELECT e::bigint FROM jsonb_array_elements_text(p_filter -> 'numbers') e);
    END IF;
    IF p_filter ? 'consumer' THEN
        SELECT id INTO v_consumer FROM waypost.consumer WHERE queue = p_queue AND name = p_filter ->> 'consumer';
        IF v_consumer IS NULL THEN
            RETURN;
        END IF;
    END IF;
    RETURN QUERY SELECT d.* FROM waypost.dead_letter d WHERE d.queue = p_queue AND d.number > p_after
        AND (p_upto IS NULL OR d.number <= p_upto)
        AND (v_numbers IS NULL OR d.number = ANY (v_numbers))
        AND (v_consumer IS NULL OR d.consumer = v_consumer)
        AND (NOT p_filter ? 'id' OR d.id = p_filter ->> 'id')
        AND (NOT p_filter ? 'key' OR d.key = p_filter ->> 'key')
        AND (NOT p_filter ? 'reason' OR strpos(d.reason, p_filter ->> 'reason') > 0)
        AND (NOT p_filter ? 'died_after' OR d.died_at >= (p_filter ->> 'died_after')::float8)
        AND (NOT p_filter ? 'died_before' OR d.died_at < (p_filter ->> 'died_before')::float8)
        AND EXISTS (SELECT FROM waypost.consumer a WHERE a.id = d.consumer AND a.queue = p_queue)
        ORDER BY d.number LIMIT p_most;
END $$;

-- Forget dead letters that were read.
CREATE OR REPLACE FUNCTION waypost.dead_letters_forget_1(INOUT s waypost.queue_state, p_numbers bigint[])
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_one record;
    c waypost.consumer_state;
BEGIN
    FOR v_one IN
        WITH gone AS (DELETE FROM waypost.dead_letter WHERE number = ANY (p_numbers) RETURNING consumer)
        SELECT gone.consumer, count(*) AS letters FROM gone GROUP BY gone.consumer
    LOOP
        s.dead := s.dead - v_one.letters;
        c := waypost.consumer_load_1(v_one.consumer);
        c.dead := c.dead - v_one.letters;
        PERFORM waypost.consumer_save_1(c, s);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION waypost.dead_letters_redrive_1(
    INOUT s waypost.queue_state, p_node int, p_arguments jsonb, p_now float8, OUT result jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_newest bigint;
    v_letters waypost.dead_letter[];
    d waypost.dead_letter;
    v_due float8;
    v_next float8;
    v_scheduled record;
    v_numbers bigint[] := '{}';
BEGIN
    SELECT number INTO v_newest FROM waypost.dead_letter WHERE queue = s.queue ORDER BY number DESC LIMIT 1;
    SELECT array_agg(l) INTO v_letters FROM waypost.dead_letters_1(s.queue, p_arguments -> 'filter',
        (p_arguments ->> 'after')::bigint, coalesce((p_arguments ->> 'upto')::bigint, v_newest),
        (p_arguments ->> 'most')::bigint) l;
    FOR i IN 1 .. coalesce(cardinality(v_letters), 0) LOOP
        d := v_letters[i];
        v_numbers := v_numbers || d.number;
        v_due := (p_arguments ->> 'first_at')::float8 + (i - 1) * (p_arguments ->> 'spacing_s')::float8;
        IF v_due <= p_now THEN
            s := waypost.queue_append_1(
                s, p_now, NULL, d.consumer, d.sum, p_node, d.id, d.key, d.history, d.headers, d.record);
        ELSE
            SELECT * INTO v_scheduled FROM waypost.queue_schedule_1(
                s, v_due, NULL, d.consumer, d.sum, p_node, d.id, d.key, d.history, d.headers, d.record);
            s := v_scheduled.s;
            v_next := coalesce(v_next, v_due);
        END IF;
    END LOOP;
    s := waypost.dead_letters_forget_1(s, v_numbers);
    result := jsonb_build_array(cardinality(v_numbers), coalesce(v_numbers[cardinality(v_numbers)], 0),
        coalesce(v_newest, 0), v_next);
END $$;

-- Remove the messages with an id that are not due yet.
CREATE OR REPLACE FUNCTION waypost.queue_cancel_1(INOUT s waypost.queue_state, p_id text, OUT result jsonb)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_messages bigint;
    v_bytes bigint;
BEGIN
    WITH gone AS (
        DELETE FROM waypost.scheduled WHERE queue = s.queue AND id = p_id AND consumer IS NULL
        AND number > s.scheduled_floor RETURNING size
    ) SELECT count(*), coalesce(sum(size), 0) INTO v_messages, v_bytes FROM gone;
    s.delayed := s.delayed - v_messages;
    s.bytes := s.bytes - v_bytes;
    DELETE FROM waypost.deduplication WHERE queue = s.queue AND id = p_id AND position < 0;
    result := to_jsonb(v_messages);
END $$;

-- Remove messages, settled or not: up to a position, or all, those that are not due included.
CREATE OR REPLACE FUNCTION waypost.queue_purge_1(
    INOUT s waypost.queue_state, p_upto bigint, p_keep_s float8, OUT result jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_done record;
    v_ended bigint;
BEGIN
    SELECT * INTO v_done FROM waypost.queue_end_oldest_1(s, coalesce(p_upto, s.top), NULL, NULL, 'purged');
    s := v_done.s;
    v_ended := v_done.ended;
    IF p_upto IS NULL AND s.delayed > 0 THEN
        v_ended := v_ended + s.delayed;
        SELECT max(number) INTO s.scheduled_floor FROM waypost.scheduled WHERE queue = s.queue;
        s.delayed := 0;
        s.bytes := 0;
        PERFORM waypost.sweep_note_1(s.queue, 'scheduled', 0, s.scheduled_floor, NULL);
    END IF;
    s := waypost.sweep_soon_1(s, p_keep_s);
    result := to_jsonb(v_ended);
END $$;

CREATE OR REPLACE FUNCTION waypost.queue_configure_1(INOUT s waypost.queue_state, p_arguments jsonb, p_defaults jsonb)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_limits record;
    v_done record;
BEGIN
    UPDATE waypost.queue SET max_messages = (p_arguments ->> 'max_messages')::bigint,
        max_bytes = (p_arguments ->> 'max_bytes')::bigint, max_age_s = (p_arguments ->> 'max_age_s')::float8,
        overflow = p_arguments ->> 'overflow', keep_settled_s = (p_arguments ->> 'keep_settled_s')::float8,
        settings = decode(p_arguments ->> 'settings', 'base64') WHERE id = s.queue;
    SELECT * INTO v_limits FROM waypost.queue_limits_1(s.queue, p_defaults);
    IF v_limits.overflow = 'drop_oldest' AND v_limits.keep_settled_s = 0 THEN
        -- Messages that are kept for a while go first, wherever they are: as later messages need the room.
        SELECT * INTO v_done FROM waypost.queue_end_oldest_1(s, s.top, s.messages + s.delayed - v_limits.max_messages,
            s.bytes - v_limits.max_bytes, 'lost');
        s := waypost.sweep_soon_1(v_done.s, 0);
    END IF;
END $$;

-- One rare write. `p_arguments` are those of the method of `StoredQueue`; the answer has its result.
CREATE OR REPLACE FUNCTION waypost.queue_change_1(
    p_queue text, p_node int, p_defaults jsonb, p_operation text, p_arguments jsonb
) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s waypost.queue_state;
    v_before waypost.queue_state;
    v_queue int;
    v_keep_s float8;
    v_now float8 := waypost.now_1();
    v_consumer bigint;
    v_done record;
    v_numbers bigint[];
    v_result jsonb;
    c waypost.consumer_state;
BEGIN
    IF p_operation IN ('add_consumer', 'configure') OR (p_operation = 'pause' AND NOT p_arguments ? 'consumer') THEN
        v_queue := waypost.queue_make_1(p_queue);
    ELSE
        v_queue := waypost.queue_lock_1(p_queue);
    END IF;
    SELECT id INTO v_consumer FROM waypost.consumer WHERE queue = v_queue AND name = p_arguments ->> 'consumer';
    IF v_consumer IS NULL AND p_arguments ? 'consumer' AND p_operation NOT IN ('add_consumer', 'remove_consumer') THEN
        RETURN jsonb_build_object('unknown', p_arguments ->> 'consumer');
    END IF;
    IF v_queue IS NOT NULL THEN
        s := waypost.queue_load_1(v_queue);
        v_before := s;
        SELECT keep_settled_s INTO v_keep_s FROM waypost.queue_limits_1(v_queue, p_defaults);
    END IF;
    CASE
        WHEN p_operation = 'wait' THEN
            NULL;
        WHEN p_operation = 'redrive' AND v_queue IS NULL THEN
            v_result := '[0, 0, 0, null]';
        WHEN v_queue IS NULL THEN
            v_result := '0';
        WHEN p_operation = 'add_consumer' THEN
            SELECT * INTO v_done FROM waypost.consumer_add_1(
                s, p_arguments ->> 'consumer', p_arguments -> 'place', v_now);
            s := v_done.s;
            v_result := v_done.result;
        WHEN p_operation = 'seek' THEN
            SELECT * INTO v_done FROM waypost.consumer_seek_1(s, v_consumer, p_arguments -> 'place', v_keep_s);
            s := v_done.s;
            v_result := v_done.result;
        WHEN p_operation = 'remove_consumer' THEN
            IF v_consumer IS NOT NULL THEN
                s := waypost.consumer_remove_1(s, v_consumer, v_keep_s);
            END IF;
        WHEN p_operation = 'pause' THEN
            IF v_consumer IS NULL THEN
                UPDATE waypost.queue SET paused_until = (p_arguments ->> 'until')::float8 WHERE id = v_queue;
            ELSE
                UPDATE waypost.consumer SET paused_until = (p_arguments ->> 'until')::float8 WHERE id = v_consumer;
            END IF;
        WHEN p_operation = 'forget_loss' THEN
            c := waypost.consumer_load_1(v_consumer);
            IF c.lost_last <= (p_arguments ->> 'upto')::bigint THEN
                c.lost := 0;
                c.lost_first := 0;
                c.lost_last := 0;
                c := waypost.consumer_save_1(c, s);
            END IF;
            v_result := waypost.consumer_row_1(s, c);
        WHEN p_operation = 'purge' THEN
            SELECT * INTO v_done FROM waypost.queue_purge_1(s, (p_arguments ->> 'upto')::bigint, v_keep_s);
            s := v_done.s;
            v_result := v_done.result;
        WHEN p_operation = 'cancel' THEN
            SELECT * INTO v_done FROM waypost.queue_cancel_1(s, p_arguments ->> 'id');
            s := v_done.s;
            v_result := v_done.result;
        WHEN p_operation = 'configure' THEN
            s := waypost.queue_configure_1(s, p_arguments, p_defaults);
        WHEN p_operation = 'redrive' THEN
            SELECT * INTO v_done FROM waypost.dead_letters_redrive_1(s, p_node, p_arguments, v_now);
            s := v_done.s;
            v_result := v_done.result;
        WHEN p_operation = 'discard_dead' THEN
            SELECT coalesce(array_agg(number), '{}') INTO v_numbers FROM waypost.dead_letters_1(
                v_queue, p_arguments -> 'filter', 0, NULL, (p_arguments ->> 'most')::bigint);
            s := waypost.dead_letters_forget_1(s, v_numbers);
            v_result := to_jsonb(cardinality(v_numbers));
        WHEN p_operation = 'delete' THEN
            UPDATE waypost.queue SET name = NULL, settings = NULL WHERE id = v_queue;
            DELETE FROM waypost.sweep WHERE queue = v_queue;
            PERFORM waypost.sweep_note_1(v_queue, 'queue', 0, 0, NULL);
    END CASE;
    IF s IS DISTINCT FROM v_before THEN
        PERFORM waypost.queue_save_1(s);
    END IF;
    RETURN jsonb_build_object('result', v_result);
END $$;

-- Rare writes of a queue, some as one: pairs of an operation and its arguments. The answer has those of each.
CREATE OR REPLACE FUNCTION waypost.queue_changes_1(
    p_queue text, p_node int, p_incarnation bigint, p_batch bigint, p_defaults jsonb, p_changes jsonb
) RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_change jsonb;
    v_results jsonb := '[]';
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM waypost.queue_lock_1(p_queue);
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    FOR v_change IN SELECT * FROM jsonb_array_elements(p_changes) LOOP
        v_results := v_results || jsonb_build_array(
            waypost.queue_change_1(p_queue, p_node, p_defaults, v_change ->> 0, v_change -> 1));
    END LOOP;
    INSERT INTO waypost.write_mark (node, incarnation, batch, results, at)
        VALUES (p_node, p_incarnation, p_batch, v_results, waypost.now_1());
    RETURN v_results;
END $$;


-- Find out what became of a write of a queue whose answer was lost: what it answered, or NULL if it was not done. The
-- node has another incarnation now, so it can't be done later; the row that this writes proves that the other lasts.
CREATE OR REPLACE FUNCTION waypost.queue_settle_1(
    p_queue text, p_node int, p_incarnation bigint, p_batch bigint, p_by_incarnation bigint, p_by_batch bigint
) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_answer jsonb;
    v_queue int;
BEGIN
    PERFORM waypost.begin_write_1();
    IF waypost.queue_lock_1(p_queue) IS NULL THEN
        -- The write may be making the queue, and nobody sees that yet: whoever takes its name waits for that.
        INSERT INTO waypost.queue (name, generation) VALUES (p_queue, '') ON CONFLICT (name) DO NOTHING
            RETURNING id INTO v_queue;
        DELETE FROM waypost.queue WHERE id = v_queue;
    END IF;
    PERFORM waypost.node_check_1(p_node, p_by_incarnation);
    SELECT results INTO v_answer FROM waypost.write_mark
        WHERE node = p_node AND incarnation = p_incarnation AND batch = p_batch;
    INSERT INTO waypost.write_mark (node, incarnation, batch, results, at)
        VALUES (p_node, p_by_incarnation, p_by_batch, NULL, waypost.now_1());
    RETURN v_answer;
END $$;
