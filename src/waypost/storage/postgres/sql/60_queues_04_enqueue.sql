-- Messages that come. Under the lock of the queue.

-- The limits that hold for a queue: its own, or those of the node that writes.
CREATE OR REPLACE FUNCTION waypost.queue_limits_1(
    p_queue int, p_defaults jsonb,
    OUT max_messages bigint, OUT max_bytes bigint, OUT max_age_s float8, OUT overflow text, OUT keep_settled_s float8
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT q.max_messages, q.max_bytes, q.max_age_s, q.overflow, q.keep_settled_s
        INTO max_messages, max_bytes, max_age_s, overflow, keep_settled_s FROM waypost.queue q WHERE q.id = p_queue;
    IF max_messages IS NULL THEN
        max_messages := (p_defaults ->> 'max_messages')::bigint;
        max_bytes := (p_defaults ->> 'max_bytes')::bigint;
        max_age_s := (p_defaults ->> 'max_age_s')::float8;
        overflow := p_defaults ->> 'overflow';
        keep_settled_s := (p_defaults ->> 'keep_settled_s')::float8;
    END IF;
END $$;

-- The position of an id that was accepted within its window, or 0; a number, negative, while it is not due.
CREATE OR REPLACE FUNCTION waypost.queue_seen_1(p_queue int, p_id text, p_window_s float8, p_now float8) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_position bigint;
BEGIN
    SELECT position INTO v_position FROM waypost.deduplication
        WHERE queue = p_queue AND id = p_id AND p_now < least(until, accepted_at + p_window_s);
    RETURN coalesce(v_position, 0);
END $$;

-- Make room within limits for messages that are fresh; what is too much still is returned.
CREATE OR REPLACE FUNCTION waypost.queue_make_room_1(
    INOUT s waypost.queue_state, p_messages bigint, p_bytes bigint, p_max_messages bigint, p_max_bytes bigint,
    p_overflow text, p_keep_s float8, OUT losers text[], OUT refused boolean
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_one record;
    v_beyond bigint;
    v_beyond_bytes bigint;
    v_bytes bigint := 0;
    v_dropped bigint[] := '{}';
    v_dropping record;
BEGIN
    losers := '{}';
    refused := false;
    v_beyond := s.messages + s.delayed + p_messages - p_max_messages;
    v_beyond_bytes := s.bytes + p_bytes - p_max_bytes;
    IF p_messages = 0 OR (v_beyond <= 0 AND v_beyond_bytes <= 0) THEN
        RETURN;
    END IF;
    IF p_keep_s > 0 THEN
        s := waypost.settled_free_1(s, v_beyond, v_beyond_bytes);
        v_beyond := s.messages + s.delayed + p_messages - p_max_messages;
        v_beyond_bytes := s.bytes + p_bytes - p_max_bytes;
    END IF;
    IF p_overflow = 'drop_oldest' THEN
        FOR v_one IN SELECT position, size FROM waypost.message WHERE queue = s.queue AND position > s.floor
            ORDER BY position
        LOOP
            EXIT WHEN v_beyond <= 0 AND v_beyond_bytes <= 0;
            IF cardinality(v_dropped) >= p_messages + 500 AND v_bytes >= p_bytes THEN
                -- Far more than its limits, since they were lowered: the rest is left to later calls.
                v_beyond := 0;
                v_beyond_bytes := 0;
                EXIT;
            END IF;
            v_dropped := v_dropped || v_one.position;
            v_bytes := v_bytes + v_one.size;
            v_beyond := v_beyond - 1;
            v_beyond_bytes := v_beyond_bytes - v_one.size;
        END LOOP;
    END IF;
    refused := v_beyond > 0 OR v_beyond_bytes > 0;
    IF NOT refused AND cardinality(v_dropped) > 0 THEN
        SELECT * INTO v_dropping FROM waypost.queue_drop_1(s, v_dropped, true);
        s := v_dropping.s;
        losers := v_dropping.losers;
    END IF;
END $$;

-- Assign the next position to one message.
CREATE OR REPLACE FUNCTION waypost.queue_append_1(
    INOUT s waypost.queue_state, p_now float8, p_expires_at float8, p_consumer bigint, p_sum bigint, p_node int, p_id text,
    p_key text, p_history jsonb, p_headers text, p_record bytea
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_size int := octet_length(p_record) + coalesce(octet_length(p_headers), 0);
    c waypost.consumer_state;
BEGIN
    s.top := s.top + 1;
    s.messages := s.messages + 1;
    s.bytes := s.bytes + v_size;
    IF p_consumer IS NULL THEN
        s.for_all := s.for_all + 1;
    ELSE
        c := waypost.consumer_load_1(p_consumer);
        c.passed := c.passed - 1;
        PERFORM waypost.consumer_save_1(c, s);
    END IF;
    INSERT INTO waypost.message (queue, position, enqueued_at, expires_at, consumer, sum, size, node, id, key, history,
        headers, record) VALUES (s.queue, s.top, p_now, p_expires_at, p_consumer, p_sum, v_size, p_node, p_id, p_key,
        p_history, p_headers, p_record);
END $$;

-- Keep one message that is not due yet; returns its number.
CREATE OR REPLACE FUNCTION waypost.queue_schedule_1(
    INOUT s waypost.queue_state, p_due_at float8, p_ttl_s float8, p_consumer bigint, p_sum bigint, p_node int, p_id text,
    p_key text, p_history jsonb, p_headers text, p_record bytea, OUT number bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_size int := octet_length(p_record) + coalesce(octet_length(p_headers), 0);
BEGIN
    s.delayed := s.delayed + 1;
    s.bytes := s.bytes + v_size;
    INSERT INTO waypost.scheduled AS t (queue, due_at, ttl_s, consumer, sum, size, node, id, key, history, headers,
        record) VALUES (s.queue, p_due_at, p_ttl_s, p_consumer, p_sum, v_size, p_node, p_id, p_key, p_history, p_headers,
        p_record) RETURNING t.number INTO number;
END $$;

-- Add the messages of one request, all or none, one after the other. Returns what became of them.
CREATE OR REPLACE FUNCTION waypost.queue_enqueue_1(
    INOUT s waypost.queue_state, p_node int, p_now float8, p_max_messages bigint, p_max_bytes bigint, p_overflow text,
    p_keep_s float8, p_window_s float8, p_limited boolean, p_ids text[], p_records bytea[], p_keys text[],
    p_ttls float8[], p_delays float8[], p_headers text[], p_sums bigint[], OUT result jsonb
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_one record;
    v_room record;
    v_fresh record;
    v_scheduled record;
    v_seen bigint;
    v_due float8;
    v_positions bigint[] := '{}';
    v_duplicates boolean[] := '{}';
    v_losers text[] := '{}';
BEGIN
    IF p_limited THEN
        SELECT count(*) AS messages, coalesce(sum(size), 0)::bigint AS bytes INTO v_fresh FROM (
            SELECT octet_length(m.record) + coalesce(octet_length(m.headers), 0) AS size,
                row_number() OVER (PARTITION BY m.id ORDER BY m.i) AS nth, m.id
            FROM unnest(p_ids, p_records, p_headers) WITH ORDINALITY AS m (id, record, headers, i)
        ) f WHERE p_window_s <= 0
            OR (f.nth = 1 AND waypost.queue_seen_1(s.queue, f.id, p_window_s, p_now) = 0);
        SELECT * INTO v_room FROM waypost.queue_make_room_1(
            s, v_fresh.messages, v_fresh.bytes, p_max_messages, p_max_bytes, p_overflow, p_keep_s);
        s := v_room.s;
        IF v_room.refused THEN
            result := jsonb_build_object('full', jsonb_build_array(
                s.messages + s.delayed, s.bytes, p_max_messages, p_max_bytes));
            RETURN;
        END IF;
        v_losers := v_room.losers;
    END IF;
    FOR v_one IN SELECT * FROM unnest(p_ids, p_records, p_keys, p_ttls, p_delays, p_headers, p_sums)
        AS m (id, record, key, ttl_s, delay_s, headers, sum)
    LOOP
        v_seen := CASE WHEN p_window_s > 0 THEN waypost.queue_seen_1(s.queue, v_one.id, p_window_s, p_now) ELSE 0 END;
        IF v_seen <> 0 THEN
            v_positions := v_positions || greatest(v_seen, 0::bigint);
            v_duplicates := v_duplicates || true;
            CONTINUE;
        END IF;
        IF v_one.delay_s > 0 THEN
            v_due := least(v_due, p_now + v_one.delay_s);
            SELECT * INTO v_scheduled FROM waypost.queue_schedule_1(s, p_now + v_one.delay_s, v_one.ttl_s, NULL,
                v_one.sum, p_node, v_one.id, v_one.key, NULL, v_one.headers, v_one.record);
            s := v_scheduled.s;
            v_seen := -v_scheduled.number;
        ELSE
            s := waypost.queue_append_1(s, p_now, p_now + v_one.ttl_s, NULL, v_one.sum, p_node, v_one.id, v_one.key,
                NULL, v_one.headers, v_one.record);
            v_seen := s.top;
        END IF;
        IF p_window_s > 0 THEN
            INSERT INTO waypost.deduplication (queue, id, position, accepted_at, until)
                VALUES (s.queue, v_one.id, v_seen, p_now, p_now + p_window_s) ON CONFLICT (queue, id) DO UPDATE
                SET position = excluded.position, accepted_at = excluded.accepted_at, until = excluded.until;
        END IF;
        v_positions := v_positions || greatest(v_seen, 0::bigint);
        v_duplicates := v_duplicates || false;
    END LOOP;
    result := jsonb_build_object('positions', to_jsonb(v_positions), 'duplicates', to_jsonb(v_duplicates),
        'losers', to_jsonb(v_losers), 'due', v_due);
END $$;

-- Add messages without delays that all fit, and of which none was accepted before: all at once. Returns whether it did.
CREATE OR REPLACE FUNCTION waypost.queue_enqueue_plain_1(
    INOUT s waypost.queue_state, p_node int, p_now float8, p_max_messages bigint, p_max_bytes bigint, p_bytes bigint,
    p_windows float8[], p_ids text[], p_records bytea[], p_keys text[], p_ttls float8[], p_headers text[],
    p_sums bigint[], OUT done boolean
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_messages int := cardinality(p_ids);
BEGIN
    done := false;
    IF s.messages + s.delayed + v_messages > p_max_messages OR s.bytes + p_bytes > p_max_bytes THEN
        RETURN;
    END IF;
    IF p_windows IS NOT NULL THEN
        IF v_messages > 1 AND (SELECT count(DISTINCT id) FROM unnest(p_ids) u (id)) < v_messages THEN
            RETURN;
        END IF;
        PERFORM FROM unnest(p_ids, p_windows) AS m (id, window_s), waypost.deduplication d
            WHERE d.queue = s.queue AND d.id = m.id AND p_now < least(d.until, d.accepted_at + m.window_s);
        IF FOUND THEN
            RETURN;
        END IF;
        INSERT INTO waypost.deduplication (queue, id, position, accepted_at, until)
            SELECT s.queue, m.id, s.top + m.i, p_now, p_now + m.window_s
            FROM unnest(p_ids, p_windows) WITH ORDINALITY AS m (id, window_s, i) WHERE m.window_s > 0
            ON CONFLICT (queue, id) DO UPDATE
            SET position = excluded.position, accepted_at = excluded.accepted_at, until = excluded.until;
    END IF;
    INSERT INTO waypost.message (queue, position, enqueued_at, expires_at, sum, size, node, id, key, headers, record)
        SELECT s.queue, s.top + m.i, p_now, p_now + m.ttl_s, m.sum,
            octet_length(m.record) + coalesce(octet_length(m.headers), 0), p_node, m.id, m.key, m.headers, m.record
        FROM unnest(p_ids, p_records, p_keys, p_ttls, p_headers, p_sums)
            WITH ORDINALITY AS m (id, record, key, ttl_s, headers, sum, i);
    s.top := s.top + v_messages;
    s.for_all := s.for_all + v_messages;
    s.messages := s.messages + v_messages;
    s.bytes := s.bytes + p_bytes;
    done := true;
END $$;
