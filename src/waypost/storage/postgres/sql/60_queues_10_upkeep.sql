-- What time brings to queues and ends, and what dead nodes held. Each call is short, and may be repeated.

-- Assign positions to some messages of a queue that are due; returns how many.
CREATE OR REPLACE FUNCTION waypost.queue_release_1(p_queue int, p_since float8) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_step CONSTANT int := 500;
    v_now float8;
    s waypost.queue_state;
    v_one record;
    v_numbers bigint[] := '{}';
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.queue WHERE id = p_queue AND name IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    v_now := waypost.now_1();
    s := waypost.queue_load_1(p_queue);
    FOR v_one IN SELECT t.* FROM waypost.scheduled t WHERE t.due_at > p_since AND t.due_at <= v_now AND t.queue = p_queue
        AND t.number > s.scheduled_floor AND (t.consumer IS NULL OR EXISTS (
            SELECT FROM waypost.consumer a WHERE a.id = t.consumer AND a.queue = p_queue))
        ORDER BY t.due_at, t.number LIMIT v_step
    LOOP
        s := waypost.queue_append_1(s, v_now, v_one.due_at + v_one.ttl_s, v_one.consumer, v_one.sum, 0,
            v_one.id, v_one.key, v_one.history, v_one.headers, v_one.record);
        s.delayed := s.delayed - 1;
        s.bytes := s.bytes - v_one.size;
        v_numbers := v_numbers || v_one.number;
        UPDATE waypost.deduplication SET position = s.top
            WHERE queue = p_queue AND id = v_one.id AND position = -v_one.number;
    END LOOP;
    IF cardinality(v_numbers) > 0 THEN
        DELETE FROM waypost.scheduled WHERE number = ANY (v_numbers);
        PERFORM waypost.queue_save_1(s);
    END IF;
    RETURN cardinality(v_numbers);
END $$;

-- The queues of which messages are due, and when the next message falls due, in a row without a queue.
CREATE OR REPLACE FUNCTION waypost.queues_due_1(p_since float8) RETURNS TABLE (queue int, name text, next_at float8)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now float8 := waypost.now_1();
BEGIN
    RETURN QUERY SELECT DISTINCT q.id, q.name, NULL::float8 FROM (
            SELECT * FROM waypost.scheduled WHERE due_at > p_since AND due_at <= v_now ORDER BY due_at LIMIT 5000) t
        JOIN waypost.queue q ON q.id = t.queue AND q.name IS NOT NULL
        CROSS JOIN LATERAL (
            SELECT scheduled_floor FROM waypost.queue_state WHERE queue = q.id ORDER BY n DESC LIMIT 1) s
        WHERE t.number > s.scheduled_floor AND (t.consumer IS NULL OR EXISTS (
            SELECT FROM waypost.consumer a WHERE a.id = t.consumer AND a.queue = q.id));
    RETURN QUERY SELECT NULL::int, NULL::text, t.due_at FROM waypost.scheduled t
        JOIN waypost.queue q ON q.id = t.queue AND q.name IS NOT NULL
        CROSS JOIN LATERAL (
            SELECT scheduled_floor FROM waypost.queue_state WHERE queue = q.id ORDER BY n DESC LIMIT 1) s
        WHERE t.due_at > p_since AND t.number > s.scheduled_floor AND (t.consumer IS NULL OR EXISTS (
            SELECT FROM waypost.consumer a WHERE a.id = t.consumer AND a.queue = q.id))
        ORDER BY t.due_at, t.number LIMIT 1;
END $$;

-- The queues that time has something to end for: kinds 'aged', 'outlived', 'settled'.
CREATE OR REPLACE FUNCTION waypost.queues_to_trim_1(p_defaults jsonb, p_since float8) RETURNS TABLE (queue int, kind text)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now float8 := waypost.now_1();
BEGIN
    RETURN QUERY SELECT q.id, k.kind FROM waypost.queue q CROSS JOIN LATERAL (
            SELECT t.floor, t.messages FROM waypost.queue_state t WHERE t.queue = q.id ORDER BY t.n DESC LIMIT 1) s
        CROSS JOIN LATERAL (
            SELECT 'aged' AS kind WHERE s.messages > 0 AND (
                SELECT m.enqueued_at FROM waypost.message m WHERE m.queue = q.id AND m.position = s.floor + 1
            ) < v_now - coalesce(q.max_age_s, (p_defaults ->> 'max_age_s')::float8)
            UNION ALL
            SELECT 'settled' WHERE s.messages > 0 AND EXISTS (SELECT FROM waypost.settled t WHERE t.queue = q.id
                AND t.at <= v_now - coalesce(q.keep_settled_s, (p_defaults ->> 'keep_settled_s')::float8))
        ) k WHERE q.name IS NOT NULL AND q.id > 0
        UNION ALL
        SELECT DISTINCT m.queue, 'outlived' FROM waypost.message m WHERE m.expires_at > p_since AND m.expires_at <= v_now;
END $$;

-- End some messages of a queue: those that are too old ('aged'), that have outlived their time to live ('outlived'), or
-- that were kept long enough after all had settled them ('settled'). Returns how many, or how many runs; 0: no more.
CREATE OR REPLACE FUNCTION waypost.queue_trim_1(p_queue int, p_kind text, p_defaults jsonb, p_since float8) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_step CONSTANT int := 500;
    v_now float8;
    v_limits record;
    s waypost.queue_state;
    v_before waypost.queue_state;
    v_positions bigint[] := '{}';
    v_one record;
    v_done record;
    v_taken bigint := 0;
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.queue WHERE id = p_queue AND name IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    v_now := waypost.now_1();
    s := waypost.queue_load_1(p_queue);
    v_before := s;
    SELECT * INTO v_limits FROM waypost.queue_limits_1(p_queue, p_defaults);
    IF p_kind = 'aged' THEN
        -- Behind a younger one, which a clock that was set back may leave, they wait.
        FOR v_one IN SELECT position, enqueued_at FROM waypost.message WHERE queue = p_queue AND position > s.floor
            ORDER BY position LIMIT v_step
        LOOP
            EXIT WHEN v_one.enqueued_at >= v_now - v_limits.max_age_s;
            v_positions := v_positions || v_one.position;
        END LOOP;
        SELECT * INTO v_done FROM waypost.queue_drop_1(s, v_positions, true);
        s := v_done.s;
        v_taken := cardinality(v_positions);
    ELSIF p_kind = 'outlived' THEN
        SELECT coalesce(array_agg(position ORDER BY position), '{}') INTO v_positions FROM (
            SELECT position FROM waypost.message WHERE expires_at > p_since AND expires_at <= v_now AND queue = p_queue
            AND position > s.floor LIMIT v_step) m;
        SELECT * INTO v_done FROM waypost.queue_drop_1(s, v_positions, false);
        s := v_done.s;
        v_taken := cardinality(v_positions);
        s.expired := s.expired + v_taken;
    ELSE
        FOR v_one IN SELECT first, at FROM waypost.settled
            WHERE queue = p_queue AND at <= v_now - v_limits.keep_settled_s ORDER BY at LIMIT 20
        LOOP
            s := (SELECT e.s FROM waypost.settled_end_1(s, v_one.first, v_one.at) e);
            v_taken := v_taken + 1;
        END LOOP;
    END IF;
    IF s IS DISTINCT FROM v_before THEN
        PERFORM waypost.queue_save_1(s);
    END IF;
    RETURN v_taken;
END $$;

-- Forget some ids whose deduplication window has ended; returns how many.
CREATE OR REPLACE FUNCTION waypost.deduplication_trim_1(p_since float8) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_taken bigint;
BEGIN
    DELETE FROM waypost.deduplication d USING (
        SELECT queue, id FROM waypost.deduplication WHERE until > p_since AND until <= waypost.now_1() LIMIT 1000
        FOR UPDATE SKIP LOCKED) e
        WHERE d.queue = e.queue AND d.id = e.id AND d.until <= waypost.now_1();
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    RETURN v_taken;
END $$;

-- Forget some dead letters that are too old, of one queue; returns how many.
CREATE OR REPLACE FUNCTION waypost.dead_letters_trim_1(p_age_s float8) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
DECLARE
    v_limit float8 := waypost.now_1() - p_age_s;
    v_queue int;
    v_numbers bigint[];
    s waypost.queue_state;
BEGIN
    PERFORM waypost.begin_write_1();
    SELECT d.queue INTO v_queue FROM waypost.dead_letter d
        JOIN waypost.consumer a ON a.id = d.consumer AND a.queue = d.queue
        JOIN waypost.queue q ON q.id = d.queue AND q.name IS NOT NULL
        WHERE d.died_at < v_limit ORDER BY d.died_at LIMIT 1;
    PERFORM FROM waypost.queue WHERE id = v_queue AND name IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    s := waypost.queue_load_1(v_queue);
    SELECT array_agg(number) INTO v_numbers FROM (
        SELECT d.number FROM waypost.dead_letter d JOIN waypost.consumer a ON a.id = d.consumer AND a.queue = d.queue
        WHERE d.died_at < v_limit AND d.queue = v_queue LIMIT 250) n;
    s := waypost.dead_letters_forget_1(s, v_numbers);
    PERFORM waypost.queue_save_1(s);
    RETURN coalesce(cardinality(v_numbers), 0);
END $$;

-- Note to which consumers a node has something attached.
CREATE OR REPLACE FUNCTION waypost.consumers_attached_1(
    p_node int, p_incarnation bigint, p_queues text[], p_consumers text[]
) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    DELETE FROM waypost.consumer_attached o WHERE o.node = p_node AND NOT EXISTS (
        SELECT FROM unnest(p_queues, p_consumers) AS a (queue, consumer)
        WHERE a.queue = o.queue AND a.consumer = o.consumer);
    INSERT INTO waypost.consumer_attached (queue, consumer, node)
        SELECT a.queue, a.consumer, p_node FROM unnest(p_queues, p_consumers) AS a (queue, consumer)
        ON CONFLICT DO NOTHING;
END $$;

-- Consumers that were last active before a time and that no node serves, after a number: queue, name and number.
CREATE OR REPLACE FUNCTION waypost.consumers_idle_1(p_idle_s float8, p_after bigint) RETURNS TABLE (
    queue text, consumer text, number bigint
) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT q.name, a.name, a.id FROM waypost.consumer a JOIN waypost.queue q ON q.id = a.queue
        CROSS JOIN LATERAL (
            SELECT t.active_at FROM waypost.consumer_state t WHERE t.consumer = a.id ORDER BY t.n DESC LIMIT 1) c
        WHERE a.id > p_after AND q.name IS NOT NULL AND c.active_at < waypost.now_1() - p_idle_s
        AND NOT EXISTS (SELECT FROM waypost.consumer_owner o
            WHERE o.queue = q.name AND o.consumer = a.name AND coalesce(o.node, 0) <> 0)
        AND NOT EXISTS (SELECT FROM waypost.consumer_attached o WHERE o.queue = q.name AND o.consumer = a.name)
        ORDER BY a.id LIMIT 100;
END $$;

-- Remove a consumer if it still is not in use; returns how many messages waited for it, and its dead letters, or NULL.
CREATE OR REPLACE FUNCTION waypost.consumer_expire_1(p_queue text, p_consumer text, p_idle_s float8, p_defaults jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_queue int;
    v_consumer bigint;
    s waypost.queue_state;
    c waypost.consumer_state;
    v_answer jsonb;
BEGIN
    PERFORM waypost.begin_write_1();
    v_queue := waypost.queue_lock_1(p_queue);
    SELECT id INTO v_consumer FROM waypost.consumer WHERE queue = v_queue AND name = p_consumer;
    IF v_consumer IS NULL THEN
        RETURN NULL;
    END IF;
    -- Held against a claim.
    PERFORM FROM waypost.consumer_owner WHERE queue = p_queue AND consumer = p_consumer AND coalesce(node, 0) <> 0
        FOR SHARE;
    c := waypost.consumer_load_1(v_consumer);
    IF FOUND OR c.active_at >= waypost.now_1() - p_idle_s THEN
        RETURN NULL;
    END IF;
    s := waypost.queue_load_1(v_queue);
    v_answer := jsonb_build_array(c.outstanding + s.for_all - c.passed, c.dead);
    s := waypost.consumer_remove_1(s, v_consumer,
        (SELECT keep_settled_s FROM waypost.queue_limits_1(v_queue, p_defaults)));
    PERFORM waypost.queue_save_1(s);
    RETURN v_answer;
END $$;

-- Note the oldest messages that functions of a node have in hand: rows of it that come, and those that go.
CREATE OR REPLACE FUNCTION waypost.holds_note_1(
    p_node int, p_incarnation bigint, p_numbers bigint[], p_queues text[], p_consumers text[], p_positions bigint[],
    p_gone bigint[]
) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    DELETE FROM waypost.holding WHERE ctid = ANY (ARRAY(
        SELECT h.ctid FROM unnest(p_gone) AS u (n) CROSS JOIN LATERAL (
            SELECT ctid FROM waypost.holding WHERE node = p_node AND n = u.n OFFSET 0) h));
    INSERT INTO waypost.holding (node, n, queue, consumer, epoch, position)
        SELECT p_node, h.n, a.queue, a.id, (
            SELECT t.epoch FROM waypost.consumer_state t WHERE t.consumer = a.id ORDER BY t.n DESC LIMIT 1), h.position
        FROM unnest(p_numbers, p_queues, p_consumers, p_positions) AS h (n, queue, consumer, position)
        JOIN waypost.queue q ON q.name = h.queue
        JOIN waypost.consumer a ON a.queue = q.id AND a.name = h.consumer;
END $$;

-- What a node leaves in the queues when it is dead, or has stopped: each message that it held has lost a delivery by a
-- death. Part of the transaction that declares it.
CREATE OR REPLACE FUNCTION waypost.queues_of_dead_1(p_node int, p_name text, p_is_stopped boolean) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_now float8 := waypost.now_1();
    v_hold record;
    v_row record;
    s waypost.queue_state;
    c waypost.consumer_state;
BEGIN
    -- Queues in the order of their numbers, so that two that do this wait for each other in one direction only.
    FOR v_hold IN SELECT DISTINCT h.queue, h.consumer, h.epoch, h.position FROM waypost.holding h
        WHERE h.node = p_node AND NOT p_is_stopped ORDER BY h.queue, h.consumer, h.position
    LOOP
        PERFORM FROM waypost.queue WHERE id = v_hold.queue AND name IS NOT NULL FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        SELECT * INTO c FROM waypost.consumer_load_1(v_hold.consumer) WHERE EXISTS (
            SELECT FROM waypost.consumer a WHERE a.id = v_hold.consumer AND a.queue = v_hold.queue);
        CONTINUE WHEN c.epoch IS DISTINCT FROM v_hold.epoch;
        s := waypost.queue_load_1(v_hold.queue);
        SELECT coalesce(max(failures), 0) AS failures, coalesce(max(losses), 0) AS losses,
            coalesce(max(breaks), 0) AS breaks, coalesce(max(breaks_since), 0) AS breaks_since,
            coalesce(max(deaths), 0) AS deaths INTO v_row FROM waypost.outstanding
            WHERE ledger = c.ledger AND position = v_hold.position;
        c := (SELECT e.c FROM waypost.consumer_attempt_1(s, c, jsonb_build_object(
            'position', v_hold.position, 'failures', v_row.failures, 'losses', v_row.losses + 1, 'retry_at', 1,
            'breaks', v_row.breaks, 'breaks_since', v_row.breaks_since, 'deaths', v_row.deaths + 1,
            'item', jsonb_build_array(v_now, 'lost', 'the process that had it in hand ended')), false) e);
        PERFORM waypost.consumer_save_1(c, s);
    END LOOP;
    DELETE FROM waypost.holding WHERE node = p_node;
    DELETE FROM waypost.consumer_attached WHERE node = p_node;
END $$;

-- The positions of queues may come to mean other messages than they did: each begins a generation.
CREATE OR REPLACE FUNCTION waypost.queues_forked_1() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE waypost.queue SET generation = replace(gen_random_uuid()::text, '-', '') WHERE name IS NOT NULL;
END $$;

-- Messages that other programs have published, one after the other. They were accepted with the program's commit, so no
-- limit refuses them.
CREATE OR REPLACE FUNCTION waypost.queue_receive_1(
    p_queue text, p_defaults jsonb, p_window_s float8, p_ids text[], p_records bytea[], p_keys text[], p_ttls float8[],
    p_delays float8[], p_headers text[], p_sums bigint[]
) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    s waypost.queue_state;
    v_limits record;
    v_done record;
BEGIN
    PERFORM waypost.begin_write_1();
    s := waypost.queue_load_1(waypost.queue_make_1(p_queue));
    SELECT * INTO v_limits FROM waypost.queue_limits_1(s.queue, p_defaults);
    SELECT * INTO v_done FROM waypost.queue_enqueue_1(s, 0, waypost.now_1(), v_limits.max_messages, v_limits.max_bytes,
        v_limits.overflow, v_limits.keep_settled_s, p_window_s, false, p_ids, p_records, p_keys, p_ttls, p_delays,
        p_headers, p_sums);
    PERFORM waypost.queue_save_1(v_done.s);
END $$;
