-- The states of queues and consumers, under the lock of the queue.

-- Lock a queue; NULL if there is none.
CREATE OR REPLACE FUNCTION waypost.queue_lock_1(p_name text) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_queue int;
BEGIN
    SELECT id INTO v_queue FROM waypost.queue WHERE name = p_name FOR UPDATE;
    RETURN v_queue;
END $$;

-- Lock a queue, and make it if there is none.
CREATE OR REPLACE FUNCTION waypost.queue_make_1(p_name text) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_queue int;
BEGIN
    LOOP
        v_queue := waypost.queue_lock_1(p_name);
        EXIT WHEN v_queue IS NOT NULL;
        INSERT INTO waypost.queue (name, generation) VALUES (p_name, replace(gen_random_uuid()::text, '-', ''))
            ON CONFLICT (name) DO NOTHING RETURNING id INTO v_queue;
        IF v_queue IS NOT NULL THEN
            -- Epochs begin anywhere: an ack for an earlier queue of that name must not count for this one. They stay
            -- whole numbers for JavaScript.
            INSERT INTO waypost.queue_state
                VALUES (v_queue, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, floor(random() * 2 ^ 50)::bigint, 0);
            EXIT;
        END IF;
    END LOOP;
    RETURN v_queue;
END $$;

CREATE OR REPLACE FUNCTION waypost.queue_load_1(p_queue int) RETURNS waypost.queue_state LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    s waypost.queue_state;
BEGIN
    SELECT * INTO s FROM waypost.queue_state WHERE queue = p_queue ORDER BY n DESC LIMIT 1;
    RETURN s;
END $$;

CREATE OR REPLACE FUNCTION waypost.queue_save_1(INOUT s waypost.queue_state) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    s.n := s.n + 1;
    IF s.messages = 0 THEN
        s.floor := s.top;
    END IF;
    INSERT INTO waypost.queue_state VALUES (s.*);
    -- Numbers are dense, so all before these went at their time: nothing looks for rows that are gone.
    IF s.n % 64 = 0 THEN
        DELETE FROM waypost.queue_state WHERE queue = s.queue AND n >= s.n - 64 AND n < s.n;
    END IF;
END $$;

CREATE OR REPLACE FUNCTION waypost.consumer_load_1(p_consumer bigint) RETURNS waypost.consumer_state
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    c waypost.consumer_state;
BEGIN
    SELECT * INTO c FROM waypost.consumer_state WHERE consumer = p_consumer ORDER BY n DESC LIMIT 1;
    RETURN c;
END $$;

CREATE OR REPLACE FUNCTION waypost.consumer_save_1(INOUT c waypost.consumer_state, s waypost.queue_state)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    c.n := c.n + 1;
    IF s.for_all = c.passed THEN
        -- Nothing beyond is for it, so that reading needs not look there.
        c.frontier := s.top;
    END IF;
    INSERT INTO waypost.consumer_state VALUES (c.*);
    IF c.n % 64 = 0 THEN
        DELETE FROM waypost.consumer_state WHERE consumer = c.consumer AND n >= c.n - 64 AND n < c.n;
    END IF;
END $$;

-- The position of the first message after another one that is for a consumer, or for any; NULL if there is none.
CREATE OR REPLACE FUNCTION waypost.message_after_1(p_queue int, p_after bigint, p_consumer bigint) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_position bigint;
BEGIN
    IF p_consumer IS NULL THEN
        SELECT position INTO v_position FROM waypost.message WHERE queue = p_queue AND position > p_after
            ORDER BY position LIMIT 1;
    ELSE
        SELECT position INTO v_position FROM waypost.message WHERE queue = p_queue AND position > p_after
            AND (consumer IS NULL OR consumer = p_consumer) ORDER BY position LIMIT 1;
    END IF;
    RETURN v_position;
END $$;

-- After rows of `outstanding` went: the counters, and where the first one is.
CREATE OR REPLACE FUNCTION waypost.consumer_released_1(
    INOUT c waypost.consumer_state, p_floor bigint, p_released bigint, p_retrying bigint, p_first bigint
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    c.outstanding := c.outstanding - p_released;
    c.retrying := c.retrying - p_retrying;
    IF c.outstanding = 0 THEN
        c.low := 0;
    ELSIF p_first <= c.low OR c.low <= p_floor THEN
        SELECT position INTO c.low FROM waypost.outstanding
            WHERE ledger = c.ledger AND position > greatest(c.low, p_floor) ORDER BY position LIMIT 1;
    END IF;
END $$;

-- The position before the first message that a consumer has not settled.
CREATE OR REPLACE FUNCTION waypost.consumer_cursor_1(s waypost.queue_state, c waypost.consumer_state) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF c.outstanding > 0 THEN
        RETURN c.low - 1;
    ELSIF s.for_all = c.passed THEN
        RETURN s.top;
    ELSIF s.for_all - c.passed = s.top - c.frontier THEN
        RETURN c.frontier;
    END IF;
    RETURN waypost.message_after_1(s.queue, greatest(c.frontier, s.floor), c.consumer) - 1;
END $$;

-- A consumer's public state, as the fields of `ConsumerRow`.
CREATE OR REPLACE FUNCTION waypost.consumer_row_1(s waypost.queue_state, c waypost.consumer_state) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_name text;
    v_paused float8;
    v_generation text;
BEGIN
    SELECT a.name, a.paused_until, q.generation INTO v_name, v_paused, v_generation
        FROM waypost.consumer a, waypost.queue q WHERE a.id = c.consumer AND q.id = s.queue;
    RETURN jsonb_build_array(
        v_name, v_generation, c.epoch, waypost.consumer_cursor_1(s, c), c.outstanding + s.for_all - c.passed, c.retrying,
        c.settled, c.failed, c.redelivered, c.dead,
        CASE WHEN c.lost > 0 THEN jsonb_build_array(c.lost, c.lost_first, c.lost_last) END, v_paused, c.active_at);
END $$;

-- Plans must hold whatever the statistics say of tables that were empty a moment ago: a row is looked up by its whole key,
-- for one position after the other (LATERAL with OFFSET 0, which is never turned around), and then deleted by its place,
-- which stays while the queue is locked.

-- Delete rows of `outstanding`: of a ledger, above a position.
CREATE OR REPLACE FUNCTION waypost.outstanding_delete_1(
    p_ledger bigint, p_after bigint, p_positions bigint[],
    OUT positions bigint[], OUT messages bigint, OUT retrying bigint, OUT first bigint, OUT last bigint
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH gone AS (
        DELETE FROM waypost.outstanding WHERE ctid = ANY (ARRAY(
            SELECT o.ctid FROM unnest(p_positions) AS u (position) CROSS JOIN LATERAL (
                SELECT ctid FROM waypost.outstanding WHERE ledger = p_ledger AND position = u.position OFFSET 0) o
            WHERE u.position > p_after))
        RETURNING position, retry_at
    ) SELECT array_agg(gone.position), count(*), count(*) FILTER (WHERE gone.retry_at > 0), min(gone.position),
        max(gone.position) INTO positions, messages, retrying, first, last FROM gone;
END $$;

-- Delete rows of `outstanding` for messages, of all ledgers.
CREATE OR REPLACE FUNCTION waypost.outstanding_delete_all_1(p_queue int, p_positions bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    DELETE FROM waypost.outstanding WHERE ctid = ANY (ARRAY(
        SELECT o.ctid FROM unnest(p_positions) AS u (position) CROSS JOIN LATERAL (
            SELECT ctid FROM waypost.outstanding WHERE queue = p_queue AND position = u.position OFFSET 0) o));
END $$;

-- Delete rows of `message`.
CREATE OR REPLACE FUNCTION waypost.messages_delete_1(
    p_queue int, p_positions bigint[], OUT messages bigint, OUT bytes bigint, OUT first bigint
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    WITH gone AS (
        DELETE FROM waypost.message WHERE ctid = ANY (ARRAY(
            SELECT m.ctid FROM unnest(p_positions) AS u (position) CROSS JOIN LATERAL (
                SELECT ctid FROM waypost.message WHERE queue = p_queue AND position = u.position OFFSET 0) m))
        RETURNING position, size
    ) SELECT count(*), coalesce(sum(gone.size), 0), min(gone.position) INTO messages, bytes, first FROM gone;
END $$;

-- Note work that is left to be done in steps.
CREATE OR REPLACE FUNCTION waypost.sweep_note_1(p_queue int, p_kind text, p_after bigint, p_upto bigint, p_consumer bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO waypost.sweep (queue, kind, position, upto, consumer)
        VALUES (p_queue, p_kind, p_after, p_upto, p_consumer);
END $$;
