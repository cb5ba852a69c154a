-- Moving the outbox: into journals and queues, in the order of the ids. Done by the node that does the upkeep.

-- Notes the id of an event; false if an event of it was moved within its window.
CREATE OR REPLACE FUNCTION waypost.emitted_note_1(p_journal int, p_id text, p_window_s float8, p_now float8)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF p_id IS NULL OR coalesce(p_window_s, 0) <= 0 THEN
        RETURN true;
    END IF;
    INSERT INTO waypost.emitted AS e VALUES (p_journal, p_id, p_now + p_window_s)
        ON CONFLICT (journal, id) DO UPDATE SET until = excluded.until WHERE e.until <= p_now;
    RETURN FOUND;
END $$;

-- Appends events to a journal; returns the last tick, NULL if there is no such journal: then nobody is there.
CREATE OR REPLACE FUNCTION waypost.move_events_1(p_namespace text, p_rows waypost.outbox_0[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_journal int;
    v_end record;
    v_now float8 := waypost.now_1();
    v_row waypost.outbox_0;
BEGIN
    SELECT id INTO v_journal FROM waypost.journal WHERE name = p_namespace FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    v_end := waypost.log_end_1(v_journal);
    -- No node has asked for them (0), and SQL computes no sums of them (-1).
    IF NOT EXISTS (SELECT FROM unnest(p_rows) WHERE write_id IS NOT NULL) THEN
        INSERT INTO waypost.log
            SELECT v_journal, v_end.o_tick + n, v_end.o_position + n, 0, 0, 0, 0, '', one.record, v_now,
                v_end.o_bytes + sum(octet_length(one.record)) OVER (ORDER BY n), -1
            FROM unnest(p_rows) WITH ORDINALITY AS one (id, kind, target, record, write_id, window_s, key, ttl_s,
                delay_s, headers, arguments, at, n);
        RETURN jsonb_build_object('journal', v_journal, 'tick', v_end.o_tick + cardinality(p_rows));
    END IF;
    FOREACH v_row IN ARRAY p_rows LOOP
        CONTINUE WHEN NOT waypost.emitted_note_1(v_journal, v_row.write_id, v_row.window_s, v_now);
        v_end.o_tick := v_end.o_tick + 1;
        v_end.o_position := v_end.o_position + 1;
        v_end.o_bytes := v_end.o_bytes + octet_length(v_row.record);
        INSERT INTO waypost.log VALUES (v_journal, v_end.o_tick, v_end.o_position, 0, 0, 0, 0, '', v_row.record, v_now,
            v_end.o_bytes, -1);
    END LOOP;
    RETURN jsonb_build_object('journal', v_journal, 'tick', v_end.o_tick);
END $$;

-- Lets matching sessions of a namespace join or leave rooms, or ends them.
CREATE OR REPLACE FUNCTION waypost.move_changes_1(p_namespace text, p_rows waypost.outbox_0[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_journal int;
    v_tick bigint;
    v_row waypost.outbox_0;
    v_done record;
BEGIN
    SELECT id INTO v_journal FROM waypost.journal WHERE name = p_namespace FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    FOREACH v_row IN ARRAY p_rows LOOP
        SELECT * INTO v_done FROM waypost.session_operation_1(v_journal, 0, 0, v_row.kind, ''::bytea, ''::bytea,
            v_row.arguments, (waypost.log_end_1(v_journal)).o_position);
        v_tick := waypost.log_row_1(v_journal, v_done.row_kind, v_done.row_head);
    END LOOP;
    RETURN jsonb_build_object('journal', v_journal, 'tick', v_tick);
END $$;

-- Adds messages to a queue. What was accepted with the application's commit is not refused any more.
CREATE OR REPLACE FUNCTION waypost.move_messages_1(p_queue text, p_rows waypost.outbox_0[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_queue int := waypost.queue_make_1(p_queue);
    v_run record;
    v_window_s float8;
BEGIN
    SELECT (convert_from(nullif(settings, ''), 'UTF8')::jsonb ->> 'deduplication_s')::float8 INTO v_window_s
        FROM waypost.queue WHERE id = v_queue;
    -- Runs of messages with the same window, in their order.
    FOR v_run IN
        SELECT window_s, array_agg(write_id ORDER BY id) AS ids, array_agg(record ORDER BY id) AS records,
            array_agg(key ORDER BY id) AS keys, array_agg(ttl_s ORDER BY id) AS ttls,
            array_agg(delay_s ORDER BY id) AS delays, array_agg(headers ORDER BY id) AS headers,
            array_agg(NULL::bigint) AS sums
        FROM (
            SELECT *, row_number() OVER (ORDER BY id) - row_number() OVER (PARTITION BY window_s ORDER BY id) AS run
            FROM unnest(p_rows)
        ) AS one GROUP BY window_s, run ORDER BY min(id)
    LOOP
        PERFORM waypost.queue_receive_1(p_queue, '{}', coalesce(v_run.window_s, v_window_s, 600), v_run.ids,
            v_run.records, v_run.keys, v_run.ttls, v_run.delays, v_run.headers, v_run.sums);
    END LOOP;
    RETURN jsonb_build_object('queue', v_queue, 'name', p_queue, 'due',
        (SELECT waypost.now_1() + min(delay_s) FROM unnest(p_rows) WHERE delay_s > 0));
END $$;

CREATE OR REPLACE FUNCTION waypost.move_group_1(p_rows waypost.outbox_0[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    CASE (p_rows[1]).kind
        WHEN 0 THEN RETURN waypost.move_events_1((p_rows[1]).target, p_rows);
        WHEN 1 THEN RETURN waypost.move_messages_1((p_rows[1]).target, p_rows);
        ELSE RETURN waypost.move_changes_1((p_rows[1]).target, p_rows);
    END CASE;
END $$;

-- Moves rows of one target. If that fails for what is in them, each is moved for itself, and the bad ones go aside.
-- What is wrong with the server, or with this node, is raised.
CREATE OR REPLACE FUNCTION waypost.move_carefully_1(p_rows waypost.outbox_0[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_row waypost.outbox_0;
    v_moved jsonb;
BEGIN
    BEGIN
        RETURN waypost.move_group_1(p_rows);
    EXCEPTION WHEN OTHERS THEN
        -- Data, integrity, limits of a page or an index, and case_not_found.
        IF SQLSTATE !~ '^(22|23|54|20)' THEN
            RAISE;
        END IF;
        IF cardinality(p_rows) = 1 THEN
            INSERT INTO waypost.outbox_bad SELECT (p_rows[1]).*, SQLERRM || ' (' || SQLSTATE || ')', waypost.now_1();
            RETURN NULL;
        END IF;
    END;
    FOREACH v_row IN ARRAY p_rows LOOP
        v_moved := coalesce(waypost.move_carefully_1(ARRAY[v_row]), v_moved);
    END LOOP;
    RETURN v_moved;
END $$;

-- Fills the other table from now on if one has grown, and truncates one that was filled before and is empty now. Who
-- has inserted into that one and not committed yet, or reads it, is not waited for.
CREATE OR REPLACE FUNCTION waypost.outbox_turn_1() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_turn bigint;
    v_filled text;
    v_other text;
BEGIN
    SELECT last_value INTO v_turn FROM waypost.outbox_turn;
    v_filled := 'waypost.outbox_' || v_turn % 2;
    v_other := 'waypost.outbox_' || (v_turn + 1) % 2;
    IF pg_relation_size(v_other::regclass) = 0 THEN
        IF pg_relation_size(v_filled::regclass) > 262144 THEN
            PERFORM setval('waypost.outbox_turn', v_turn + 1);
        END IF;
        RETURN;
    END IF;
    BEGIN
        EXECUTE 'LOCK TABLE ' || v_other || ' IN ACCESS EXCLUSIVE MODE NOWAIT';
    EXCEPTION WHEN lock_not_available THEN
        RETURN;
    END;
    IF (v_turn + 1) % 2 = 0 AND NOT EXISTS (SELECT FROM waypost.outbox_0)
        OR (v_turn + 1) % 2 = 1 AND NOT EXISTS (SELECT FROM waypost.outbox_1)
    THEN
        EXECUTE 'TRUNCATE ' || v_other;
    END IF;
END $$;

-- Moves rows, at most so many and 4 MiB of them beyond the first. Returns how many left the outbox, whether there may
-- be more, and where something has come: journals with their last ticks, queues, and when the next message is due.
CREATE OR REPLACE FUNCTION waypost.move_outbox_1(p_node int, p_incarnation bigint, p_rows int) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_group waypost.outbox_0[] := '{}';
    v_row waypost.outbox_0;
    v_ids bigint[] := '{}';
    v_bytes bigint := 0;
    v_journals jsonb := '{}';
    v_queues jsonb := '{}';
    v_due float8;
    v_moved jsonb;
    v_rows waypost.outbox_0[];
BEGIN
    -- Most looks find nothing, and leave nothing behind.
    IF NOT EXISTS (SELECT FROM waypost.outbox_0) AND NOT EXISTS (SELECT FROM waypost.outbox_1)
        AND (pg_relation_size('waypost.outbox_0') = 0 OR pg_relation_size('waypost.outbox_1') = 0)
    THEN
        RETURN NULL;
    END IF;
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.outbox_mover WHERE id = 1 FOR UPDATE;
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true);
    FOR v_row IN
        SELECT * FROM (
            (SELECT * FROM waypost.outbox_0 ORDER BY id LIMIT p_rows)
            UNION ALL (SELECT * FROM waypost.outbox_1 ORDER BY id LIMIT p_rows)
        ) AS both_of_them ORDER BY id LIMIT p_rows
    LOOP
        EXIT WHEN v_bytes > 0 AND v_bytes + octet_length(v_row.record) > 4194304;
        v_bytes := v_bytes + octet_length(v_row.record);
        v_ids := v_ids || v_row.id;
        v_rows := v_rows || v_row;
    END LOOP;
    FOR n IN 1 .. coalesce(cardinality(v_rows), 0) LOOP
        v_group := v_group || v_rows[n];
        CONTINUE WHEN n < cardinality(v_rows) AND (v_rows[n + 1]).target = (v_rows[n]).target
            AND ((v_rows[n + 1]).kind = (v_rows[n]).kind OR (v_rows[n]).kind >= 18 AND (v_rows[n + 1]).kind >= 18);
        v_moved := waypost.move_carefully_1(v_group);
        v_group := '{}';
        IF v_moved ? 'journal' THEN
            v_journals := jsonb_set(v_journals, ARRAY[v_moved ->> 'journal'], v_moved -> 'tick');
        ELSIF v_moved ? 'queue' THEN
            v_queues := jsonb_set(v_queues, ARRAY[v_moved ->> 'queue'], v_moved -> 'name');
            v_due := least(v_due, (v_moved ->> 'due')::float8);
        END IF;
    END LOOP;
    DELETE FROM waypost.outbox_0 WHERE id = ANY (v_ids);
    DELETE FROM waypost.outbox_1 WHERE id = ANY (v_ids);
    PERFORM waypost.outbox_turn_1();
    RETURN jsonb_build_object('moved', cardinality(v_ids), 'journals', v_journals, 'queues', v_queues, 'due', v_due);
END $$;

-- Forgets some ids whose time is over; returns how many.
CREATE OR REPLACE FUNCTION waypost.trim_outbox_1(p_rows int) RETURNS int LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off AS $$
DECLARE
    v_gone int;
BEGIN
    PERFORM waypost.begin_write_1();
    DELETE FROM waypost.emitted WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM waypost.emitted WHERE until <= waypost.now_1() ORDER BY until LIMIT p_rows FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    RETURN v_gone;
END $$;
