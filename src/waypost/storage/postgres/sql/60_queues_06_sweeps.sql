-- Removes in steps the rows of what is gone already: of messages that ended, of consumers that left or were moved, of
-- queues that were deleted.

-- A step of one piece of work, under the lock of the queue. Returns how many rows it took; 0: it is done, and gone.
CREATE OR REPLACE FUNCTION waypost.sweep_step_1(
    INOUT s waypost.queue_state, p_sweep bigint, p_keep_s float8, OUT taken bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_step CONSTANT int := 250;
    w waypost.sweep;
    v_positions bigint[];
    v_upto bigint;
    v_bytes bigint;
BEGIN
    SELECT * INTO w FROM waypost.sweep WHERE id = p_sweep;
    v_upto := w.upto;
    IF w.kind IN ('messages', 'between') THEN
        SELECT array_agg(position) INTO v_positions FROM (
            SELECT position FROM waypost.message WHERE queue = w.queue AND position > w.position AND position <= v_upto
            ORDER BY position LIMIT v_step) m;
    ELSIF w.kind = 'outstanding' THEN
        SELECT array_agg(position) INTO v_positions FROM (
            SELECT position FROM waypost.outstanding WHERE queue = w.queue AND position > w.position
            AND position <= v_upto ORDER BY position LIMIT v_step) m;
    ELSIF w.kind = 'ledger' THEN
        SELECT array_agg(position) INTO v_positions FROM (
            SELECT position FROM waypost.outstanding WHERE ledger = w.consumer AND position > w.position
            ORDER BY position LIMIT v_step) m;
    ELSIF w.kind = 'consumer' THEN
        SELECT array_agg(position) INTO v_positions FROM (
            SELECT position FROM waypost.message WHERE consumer = w.consumer AND position > w.position
            ORDER BY position LIMIT v_step) m;
    END IF;
    taken := coalesce(cardinality(v_positions), 0);
    IF w.kind = 'messages' THEN
        PERFORM waypost.messages_delete_1(w.queue, v_positions);
    ELSIF w.kind = 'outstanding' THEN
        PERFORM waypost.outstanding_delete_all_1(w.queue, v_positions);
    ELSIF w.kind = 'ledger' THEN
        PERFORM waypost.outstanding_delete_1(w.consumer, 0, v_positions);
        IF s.consumers > 0 THEN
            s := waypost.queue_end_unwanted_1(s, v_positions, p_keep_s);
        END IF;
    ELSIF w.kind = 'between' THEN
        -- A queue without consumers keeps all that it has.
        IF s.consumers > 0 THEN
            s := waypost.queue_end_unwanted_1(s, v_positions, p_keep_s);
        END IF;
    ELSIF w.kind = 'consumer' AND taken > 0 THEN
        s := waypost.queue_end_unwanted_1(s, v_positions, p_keep_s);
    ELSIF w.kind = 'consumer' THEN
        WITH gone AS (
            DELETE FROM waypost.dead_letter WHERE number IN (
                SELECT number FROM waypost.dead_letter WHERE consumer = w.consumer ORDER BY number LIMIT v_step)
            RETURNING number
        ) SELECT count(*) INTO taken FROM gone;
        IF taken = 0 THEN
            WITH gone AS (
                DELETE FROM waypost.scheduled WHERE number IN (
                    SELECT number FROM waypost.scheduled WHERE queue = w.queue AND consumer = w.consumer LIMIT v_step)
                RETURNING number, size
            ) SELECT count(*), count(*) FILTER (WHERE number > s.scheduled_floor),
                coalesce(sum(size) FILTER (WHERE number > s.scheduled_floor), 0)
                INTO taken, v_upto, v_bytes FROM gone;
            s.delayed := s.delayed - v_upto;
            s.bytes := s.bytes - v_bytes;
        END IF;
        IF taken = 0 THEN
            DELETE FROM waypost.consumer_state WHERE consumer = w.consumer;
            DELETE FROM waypost.consumer WHERE id = w.consumer;
        END IF;
    ELSIF w.kind = 'scheduled' THEN
        WITH gone AS (
            DELETE FROM waypost.scheduled WHERE number IN (
                SELECT number FROM waypost.scheduled WHERE queue = w.queue AND number <= w.upto LIMIT v_step)
            RETURNING number
        ) SELECT count(*) INTO taken FROM gone;
    END IF;
    IF taken = 0 THEN
        DELETE FROM waypost.sweep WHERE id = w.id;
    ELSIF v_positions IS NOT NULL THEN
        UPDATE waypost.sweep SET position = v_positions[cardinality(v_positions)] WHERE id = w.id;
    END IF;
END $$;

-- What was just left to be done for a queue, as far as it is little enough for the same commit.
CREATE OR REPLACE FUNCTION waypost.sweep_soon_1(INOUT s waypost.queue_state, p_keep_s float8)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_most CONSTANT int := 2000;
    v_sweep bigint;
    v_done record;
BEGIN
    FOR i IN 1 .. 8 LOOP
        SELECT id INTO v_sweep FROM waypost.sweep WHERE queue = s.queue AND upto - position <= v_most
            ORDER BY id DESC LIMIT 1;
        EXIT WHEN v_sweep IS NULL;
        SELECT * INTO v_done FROM waypost.sweep_step_1(s, v_sweep, p_keep_s);
        s := v_done.s;
    END LOOP;
END $$;

-- Some steps of what is left to be done, for one queue. Returns how many rows they took; 0 if nothing is left.
CREATE OR REPLACE FUNCTION waypost.queues_sweep_1(p_defaults jsonb) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_sweep record;
    v_done record;
    s waypost.queue_state;
    v_before waypost.queue_state;
    v_taken bigint;
BEGIN
    PERFORM waypost.begin_write_1();
    SELECT w.id, w.queue INTO v_sweep FROM waypost.sweep w ORDER BY w.id LIMIT 1;
    IF v_sweep.id IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM FROM waypost.queue WHERE id = v_sweep.queue AND name IS NOT NULL FOR UPDATE;
    IF NOT FOUND THEN
        v_taken := waypost.queue_rest_1(v_sweep.queue);
        IF v_taken = 0 THEN
            DELETE FROM waypost.sweep WHERE id = v_sweep.id;
        END IF;
        RETURN greatest(v_taken, 1);
    END IF;
    s := waypost.queue_load_1(v_sweep.queue);
    v_before := s;
    SELECT * INTO v_done FROM waypost.sweep_step_1(s, v_sweep.id,
        (SELECT keep_settled_s FROM waypost.queue_limits_1(v_sweep.queue, p_defaults)));
    IF v_done.s IS DISTINCT FROM v_before THEN
        PERFORM waypost.queue_save_1(v_done.s);
    END IF;
    RETURN greatest(v_done.taken, 1);
END $$;

-- Remove some of what is left of a queue that was deleted; returns how much, 0 if nothing is left.
CREATE OR REPLACE FUNCTION waypost.queue_rest_1(p_queue int) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_step CONSTANT int := 250;
    v_taken bigint;
    v_consumers bigint[];
BEGIN
    PERFORM FROM waypost.queue WHERE id = p_queue AND name IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    DELETE FROM waypost.message WHERE queue = p_queue AND position IN (
        SELECT position FROM waypost.message WHERE queue = p_queue ORDER BY position LIMIT v_step);
    GET DIAGNOSTICS v_taken = ROW_COUNT;
    IF v_taken = 0 THEN
        DELETE FROM waypost.scheduled WHERE number IN (
            SELECT number FROM waypost.scheduled WHERE queue = p_queue LIMIT v_step);
        GET DIAGNOSTICS v_taken = ROW_COUNT;
    END IF;
    IF v_taken = 0 THEN
        DELETE FROM waypost.deduplication WHERE queue = p_queue AND id IN (
            SELECT id FROM waypost.deduplication WHERE queue = p_queue LIMIT v_step);
        GET DIAGNOSTICS v_taken = ROW_COUNT;
    END IF;
    IF v_taken = 0 THEN
        DELETE FROM waypost.outstanding o USING (
            SELECT ledger, position FROM waypost.outstanding WHERE queue = p_queue ORDER BY position LIMIT v_step) m
            WHERE o.ledger = m.ledger AND o.position = m.position;
        GET DIAGNOSTICS v_taken = ROW_COUNT;
    END IF;
    IF v_taken = 0 THEN
        DELETE FROM waypost.dead_letter WHERE number IN (
            SELECT number FROM waypost.dead_letter WHERE queue = p_queue ORDER BY number LIMIT v_step);
        GET DIAGNOSTICS v_taken = ROW_COUNT;
    END IF;
    IF v_taken = 0 THEN
        SELECT array_agg(id) INTO v_consumers FROM (
            SELECT id FROM waypost.consumer WHERE queue IN (p_queue, -p_queue) LIMIT v_step) a;
        DELETE FROM waypost.consumer_state WHERE consumer = ANY (v_consumers);
        DELETE FROM waypost.consumer WHERE id = ANY (v_consumers);
        GET DIAGNOSTICS v_taken = ROW_COUNT;
    END IF;
    IF v_taken = 0 THEN
        DELETE FROM waypost.settled WHERE queue = p_queue;
        DELETE FROM waypost.queue_state WHERE queue = p_queue;
        DELETE FROM waypost.queue WHERE id = p_queue;
    END IF;
    RETURN v_taken;
END $$;
