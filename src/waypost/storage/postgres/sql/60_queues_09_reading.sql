-- What is read of queues: their states, and messages. Each call sees one moment.

-- A queue's public state, as the fields of `QueueRow`; those of many queues, by name.
CREATE OR REPLACE FUNCTION waypost.queues_info_1(p_after text, p_most bigint, p_idle boolean) RETURNS TABLE (
    name text, generation text, top bigint, messages bigint, delayed bigint, bytes bigint, oldest_at float8,
    consumers bigint, dead bigint, expired bigint, dropped bigint, paused_until float8
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY SELECT q.name, q.generation, s.top, s.messages, s.delayed, s.bytes,
        CASE WHEN s.messages > 0 THEN (
            SELECT m.enqueued_at FROM waypost.message m WHERE m.queue = q.id AND m.position = s.floor + 1) END,
        s.consumers, s.dead, s.expired, s.dropped, q.paused_until
        FROM waypost.queue q CROSS JOIN LATERAL (
            SELECT * FROM waypost.queue_state t WHERE t.queue = q.id ORDER BY t.n DESC LIMIT 1) s
        WHERE q.name > p_after AND (p_idle OR s.messages > 0 OR s.delayed > 0 OR s.dead > 0)
        ORDER BY q.name LIMIT p_most;
END $$;

CREATE OR REPLACE FUNCTION waypost.queue_info_1(p_name text) RETURNS TABLE (
    name text, generation text, top bigint, messages bigint, delayed bigint, bytes bigint, oldest_at float8,
    consumers bigint, dead bigint, expired bigint, dropped bigint, paused_until float8
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY SELECT q.name, q.generation, s.top, s.messages, s.delayed, s.bytes,
        CASE WHEN s.messages > 0 THEN (
            SELECT m.enqueued_at FROM waypost.message m WHERE m.queue = q.id AND m.position = s.floor + 1) END,
        s.consumers, s.dead, s.expired, s.dropped, q.paused_until
        FROM waypost.queue q CROSS JOIN LATERAL (
            SELECT * FROM waypost.queue_state t WHERE t.queue = q.id ORDER BY t.n DESC LIMIT 1) s
        WHERE q.name = p_name;
END $$;

-- The states of consumers by name: of one, or of those after a name.
CREATE OR REPLACE FUNCTION waypost.consumers_1(p_queue text, p_name text, p_after text, p_most bigint)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
DECLARE
    v_queue int;
    s waypost.queue_state;
    v_one record;
BEGIN
    SELECT id INTO v_queue FROM waypost.queue WHERE name = p_queue;
    IF v_queue IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO s FROM waypost.queue_state WHERE queue = v_queue ORDER BY n DESC LIMIT 1;
    FOR v_one IN SELECT (SELECT t FROM waypost.consumer_state t WHERE t.consumer = a.id ORDER BY t.n DESC LIMIT 1) AS c
        FROM waypost.consumer a WHERE a.queue = v_queue AND a.name > p_after AND (p_name IS NULL OR a.name = p_name)
        ORDER BY a.name LIMIT p_most
    LOOP
        RETURN NEXT waypost.consumer_row_1(s, v_one.c);
    END LOOP;
END $$;

-- The state of a consumer by name; raises WP005 if there is none.
CREATE OR REPLACE FUNCTION waypost.consumer_at_1(p_queue int, p_name text) RETURNS waypost.consumer_state
LANGUAGE plpgsql STABLE AS $$
DECLARE
    c waypost.consumer_state;
BEGIN
    SELECT t.* INTO c FROM waypost.consumer_state t
        WHERE t.consumer = (SELECT a.id FROM waypost.consumer a WHERE a.queue = p_queue AND a.name = p_name)
        ORDER BY t.n DESC LIMIT 1;
    IF c.consumer IS NULL THEN
        RAISE EXCEPTION 'no such consumer' USING ERRCODE = 'WP005', DETAIL = p_name;
    END IF;
    RETURN c;
END $$;

-- What a consumer has not settled after a position.
CREATE OR REPLACE FUNCTION waypost.queue_fetch_1(
    p_queue text, p_consumer text, p_after bigint, p_most bigint, p_bytes bigint
) RETURNS TABLE (
    sum bigint, "position" bigint, id text, record bytea, enqueued_at float8, key text, expires_at float8,
    failures bigint, losses bigint, retry_at float8, breaks bigint, breaks_since bigint, deaths bigint, headers text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now float8 := waypost.now_1();
    v_queue int;
    v_floor bigint;
    v_for_all bigint;
    c waypost.consumer_state;
BEGIN
    SELECT q.id INTO v_queue FROM waypost.queue q WHERE q.name = p_queue;
    SELECT t.floor, t.for_all INTO v_floor, v_for_all FROM waypost.queue_state t WHERE t.queue = v_queue
        ORDER BY t.n DESC LIMIT 1;
    c := waypost.consumer_at_1(v_queue, p_consumer);
    RETURN QUERY SELECT f.sum, f.position, f.id, f.record, f.enqueued_at, f.key, f.expires_at, f.failures, f.losses,
        f.retry_at, f.breaks, f.breaks_since, f.deaths, f.headers
        FROM (
            SELECT u.*, sum(octet_length(u.record)) OVER w AS bytes, row_number() OVER w AS nth FROM (
                (SELECT m.sum, m.position, m.id, m.record, m.enqueued_at, m.key, m.expires_at, o.failures, o.losses,
                    o.retry_at, o.breaks, o.breaks_since, o.deaths, m.headers
                    FROM waypost.outstanding o CROSS JOIN LATERAL (
                        SELECT * FROM waypost.message WHERE queue = v_queue AND position = o.position OFFSET 0) m
                    WHERE c.outstanding > 0 AND o.ledger = c.ledger
                    AND o.position > greatest(p_after, v_floor, c.low - 1)
                    AND (m.expires_at IS NULL OR m.expires_at > v_now) ORDER BY o.position LIMIT p_most)
                UNION ALL
                (SELECT m.sum, m.position, m.id, m.record, m.enqueued_at, m.key, m.expires_at, 0, 0, 0, 0, 0, 0, m.headers
                    FROM waypost.message m WHERE v_for_all > c.passed AND m.queue = v_queue
                    AND m.position > greatest(p_after, v_floor, c.frontier)
                    AND (m.consumer IS NULL OR m.consumer = c.consumer)
                    AND (m.expires_at IS NULL OR m.expires_at > v_now) ORDER BY m.position LIMIT p_most)
            ) u WINDOW w AS (ORDER BY u.position ROWS UNBOUNDED PRECEDING)
        ) f WHERE f.nth <= p_most AND (f.nth = 1 OR f.bytes <= p_bytes) ORDER BY f.position;
END $$;

-- The same, but only with a key, and up to a position.
CREATE OR REPLACE FUNCTION waypost.queue_fetch_key_1(
    p_queue text, p_consumer text, p_key text, p_after bigint, p_upto bigint, p_most bigint, p_bytes bigint
) RETURNS TABLE (
    sum bigint, "position" bigint, id text, record bytea, enqueued_at float8, key text, expires_at float8,
    failures bigint, losses bigint, retry_at float8, breaks bigint, breaks_since bigint, deaths bigint, headers text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now float8 := waypost.now_1();
    v_queue int;
    v_floor bigint;
    v_for_all bigint;
    c waypost.consumer_state;
BEGIN
    SELECT q.id INTO v_queue FROM waypost.queue q WHERE q.name = p_queue;
    SELECT t.floor, t.for_all INTO v_floor, v_for_all FROM waypost.queue_state t WHERE t.queue = v_queue
        ORDER BY t.n DESC LIMIT 1;
    c := waypost.consumer_at_1(v_queue, p_consumer);
    RETURN QUERY SELECT f.sum, f.position, f.id, f.record, f.enqueued_at, f.key, f.expires_at, f.failures, f.losses,
        f.retry_at, f.breaks, f.breaks_since, f.deaths, f.headers
        FROM (
            SELECT u.*, sum(octet_length(u.record)) OVER w AS bytes, row_number() OVER w AS nth FROM (
                (SELECT m.sum, m.position, m.id, m.record, m.enqueued_at, m.key, m.expires_at, o.failures, o.losses,
                    o.retry_at, o.breaks, o.breaks_since, o.deaths, m.headers
                    FROM waypost.outstanding o CROSS JOIN LATERAL (
                        SELECT * FROM waypost.message WHERE queue = v_queue AND position = o.position OFFSET 0) m
                    WHERE c.outstanding > 0 AND o.ledger = c.ledger AND o.key = p_key AND o.position <= p_upto
                    AND o.position > greatest(p_after, v_floor, c.low - 1)
                    AND (m.expires_at IS NULL OR m.expires_at > v_now) ORDER BY o.position LIMIT p_most)
                UNION ALL
                (SELECT m.sum, m.position, m.id, m.record, m.enqueued_at, m.key, m.expires_at, 0, 0, 0, 0, 0, 0, m.headers
                    FROM waypost.message m WHERE v_for_all > c.passed AND m.queue = v_queue AND m.key = p_key AND m.position <= p_upto
                    AND m.position > greatest(p_after, v_floor, c.frontier)
                    AND (m.consumer IS NULL OR m.consumer = c.consumer)
                    AND (m.expires_at IS NULL OR m.expires_at > v_now) ORDER BY m.position LIMIT p_most)
            ) u WINDOW w AS (ORDER BY u.position ROWS UNBOUNDED PRECEDING)
        ) f WHERE f.nth <= p_most AND (f.nth = 1 OR f.bytes <= p_bytes) ORDER BY f.position;
END $$;

-- What failed or was lost at a consumer before and is due again. `next_at`, in each row, and in one without a position if
-- there is no other: when the next one falls due.
CREATE OR REPLACE FUNCTION waypost.queue_fetch_retries_1(
    p_queue text, p_consumer text, p_upto bigint, p_held bigint[], p_most bigint, p_bytes bigint
) RETURNS TABLE (
    next_at float8, sum bigint, "position" bigint, id text, record bytea, enqueued_at float8, key text,
    expires_at float8, failures bigint, losses bigint, retry_at float8, breaks bigint, breaks_since bigint,
    deaths bigint, headers text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_now float8 := waypost.now_1();
    v_next float8;
    v_queue int;
    v_floor bigint;
    c waypost.consumer_state;
BEGIN
    SELECT q.id INTO v_queue FROM waypost.queue q WHERE q.name = p_queue;
    SELECT t.floor INTO v_floor FROM waypost.queue_state t WHERE t.queue = v_queue ORDER BY t.n DESC LIMIT 1;
    c := waypost.consumer_at_1(v_queue, p_consumer);
    IF c.retrying = 0 THEN
        RETURN;
    END IF;
    SELECT o.retry_at INTO v_next FROM waypost.outstanding o WHERE o.ledger = c.ledger AND o.retry_at > 0
        AND o.retry_at > v_now AND o.position > v_floor ORDER BY o.retry_at LIMIT 1;
    RETURN QUERY SELECT v_next, f.sum, f.position, f.id, f.record, f.enqueued_at, f.key, f.expires_at, f.failures,
        f.losses, f.retry_at, f.breaks, f.breaks_since, f.deaths, f.headers
        FROM (
            SELECT u.*, sum(octet_length(u.record)) OVER w AS bytes, row_number() OVER w AS nth FROM (
                SELECT m.sum, m.position, m.id, m.record, m.enqueued_at, m.key, m.expires_at, o.failures, o.losses,
                    o.retry_at, o.breaks, o.breaks_since, o.deaths, m.headers
                FROM waypost.outstanding o CROSS JOIN LATERAL (
                        SELECT * FROM waypost.message WHERE queue = v_queue AND position = o.position OFFSET 0) m
                WHERE o.ledger = c.ledger AND o.retry_at > 0 AND o.retry_at <= v_now AND o.position > v_floor
                AND o.position <= p_upto AND o.position <> ALL (p_held)
                AND (m.expires_at IS NULL OR m.expires_at > v_now) ORDER BY o.retry_at, o.position LIMIT p_most
            ) u WINDOW w AS (ORDER BY u.retry_at, u.position ROWS UNBOUNDED PRECEDING)
        ) f WHERE f.nth = 1 OR f.bytes <= p_bytes ORDER BY f.retry_at, f.position;
    IF NOT FOUND THEN
        next_at := v_next;
        RETURN NEXT;
    END IF;
END $$;

-- Messages as a queue keeps them.
CREATE OR REPLACE FUNCTION waypost.queue_peek_1(p_queue text, p_after bigint, p_most bigint, p_bytes bigint)
RETURNS TABLE (
    sum bigint, "position" bigint, id text, record bytea, enqueued_at float8, key text, expires_at float8,
    failures bigint, losses bigint, retry_at float8, breaks bigint, breaks_since bigint, deaths bigint, headers text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    v_queue int;
    v_floor bigint;
BEGIN
    SELECT q.id INTO v_queue FROM waypost.queue q WHERE q.name = p_queue;
    SELECT t.floor INTO v_floor FROM waypost.queue_state t WHERE t.queue = v_queue ORDER BY t.n DESC LIMIT 1;
    RETURN QUERY SELECT f.sum, f.position, f.id, f.record, f.enqueued_at, f.key, f.expires_at, 0::bigint, 0::bigint,
        0::float8, 0::bigint, 0::bigint, 0::bigint, f.headers
        FROM (
            SELECT u.*, sum(octet_length(u.record)) OVER w AS bytes, row_number() OVER w AS nth FROM (
                SELECT m.sum, m.position, m.id, m.record, m.enqueued_at, m.key, m.expires_at, m.headers
                FROM waypost.message m WHERE m.queue = v_queue AND m.position > greatest(p_after, v_floor)
                ORDER BY m.position LIMIT p_most
            ) u WINDOW w AS (ORDER BY u.position ROWS UNBOUNDED PRECEDING)
        ) f WHERE f.nth = 1 OR f.bytes <= p_bytes ORDER BY f.position;
END $$;

-- Messages of some queues that other nodes have added, by queue and position: what came after the positions that a
-- node knows of.
CREATE OR REPLACE FUNCTION waypost.queues_arrived_1(p_queues text[], p_after bigint[], p_most bigint)
RETURNS TABLE (
    queue text, top bigint, "position" bigint, node int, consumer bigint, id text, record bytea, enqueued_at float8, key text,
    expires_at float8, headers text
) LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT q.name, s.top, m.position, m.node, m.consumer, m.id, m.record, m.enqueued_at, m.key, m.expires_at,
        m.headers
        FROM unnest(p_queues, p_after) AS k (name, after) JOIN waypost.queue q ON q.name = k.name
        CROSS JOIN LATERAL (
            SELECT t.top, t.floor FROM waypost.queue_state t WHERE t.queue = q.id ORDER BY t.n DESC LIMIT 1) s
        LEFT JOIN LATERAL (
            SELECT * FROM waypost.message l WHERE l.queue = q.id AND l.position > greatest(k.after, s.floor)
            ORDER BY l.position LIMIT p_most) m ON true
        WHERE s.top <> k.after;
END $$;
