-- Journals: the log that nodes append to and follow, its positions, and its generations.
--
-- All writes of a journal happen under the lock of its row in `journal`, which is never updated: a row that is would
-- leave versions behind that every look-up reads while anybody holds an old snapshot. For the same reason there is no
-- counter: the newest row of the log says where it stands. That row is never deleted.

CREATE TABLE IF NOT EXISTS waypost.journal (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    made_at float8 NOT NULL
);

-- Ticks are dense over all rows, positions over events (kind 0); other rows repeat the position before them. `bytes`
-- counts all records up to and with this one.
-- Kinds: 0 event, 1 only a mark, 2 joined, 3 left, 4 ended, 5 claim, 6 released, 8 a generation began, 9 trimmed.
CREATE TABLE IF NOT EXISTS waypost.log (
    journal int NOT NULL,
    tick bigint NOT NULL,
    position bigint NOT NULL,
    node int NOT NULL,
    incarnation bigint NOT NULL,
    batch bigint NOT NULL,
    kind smallint NOT NULL,
    head bytea NOT NULL,
    record bytea NOT NULL,
    at float8 NOT NULL,
    bytes bigint NOT NULL,
    sum bigint NOT NULL,
    PRIMARY KEY (journal, tick)
);
CREATE UNIQUE INDEX IF NOT EXISTS log_position ON waypost.log (journal, position) WHERE kind = 0;
ALTER TABLE waypost.log ALTER COLUMN record SET STORAGE EXTERNAL;
-- Rows go in ranges from its beginning only: what is dead is dead for good, and is cleaned early.
ALTER TABLE waypost.log SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

-- The histories of a journal; the present one has no last position.
CREATE TABLE IF NOT EXISTS waypost.generation (
    journal int NOT NULL,
    number int NOT NULL,
    name text NOT NULL,
    last bigint,
    PRIMARY KEY (journal, number)
);

-- The first tick and position that a journal keeps, and the bytes of all records before it: as they were when rows
-- were deleted last. One row for each time; the newest counts.
CREATE TABLE IF NOT EXISTS waypost.trimmed (
    journal int NOT NULL,
    number bigint NOT NULL,
    tick bigint NOT NULL,
    position bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (journal, number)
);

-- Locks a journal for its writers; refuses one that was dropped.
CREATE OR REPLACE FUNCTION waypost.lock_journal_1(p_journal int) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM waypost.journal WHERE id = p_journal FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the journal was dropped' USING ERRCODE = 'WP010';
    END IF;
END $$;

-- Where a log stands. Read under the lock by a writer. A table that was vacuumed while it was empty has statistics
-- after which all of it would be read and sorted: that is forbidden.
CREATE OR REPLACE FUNCTION waypost.log_end_1(p_journal int, OUT o_tick bigint, OUT o_position bigint, OUT o_bytes bigint)
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
BEGIN
    SELECT tick, position, bytes INTO o_tick, o_position, o_bytes FROM waypost.log
        WHERE journal = p_journal ORDER BY tick DESC LIMIT 1;
    IF NOT FOUND THEN
        o_tick := 0;
        o_position := 0;
        o_bytes := 0;
    END IF;
END $$;

-- Appends a row that is no event. The caller holds the lock.
CREATE OR REPLACE FUNCTION waypost.add_row_1(
    p_journal int, p_node int, p_incarnation bigint, p_batch bigint, p_kind smallint, p_head bytea
) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_end record;
BEGIN
    v_end := waypost.log_end_1(p_journal);
    INSERT INTO waypost.log VALUES (p_journal, v_end.o_tick + 1, v_end.o_position, p_node, p_incarnation, p_batch,
        p_kind, coalesce(p_head, ''), '', waypost.now_1(), v_end.o_bytes, 0);
    RETURN v_end.o_tick + 1;
END $$;

-- Appends a row that no node has asked for. The caller holds the lock.
CREATE OR REPLACE FUNCTION waypost.log_row_1(p_journal int, p_kind smallint, p_head bytea) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN waypost.add_row_1(p_journal, 0, 0, 0, p_kind, p_head);
END $$;

-- Appends events; returns the tick and the position of the first one.
CREATE OR REPLACE FUNCTION waypost.append_1(
    p_journal int, p_node int, p_incarnation bigint, p_batch bigint, p_records bytea[], p_sums bigint[],
    OUT o_tick bigint, OUT o_position bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_end record;
    v_at float8;
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM waypost.lock_journal_1(p_journal);
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    v_end := waypost.log_end_1(p_journal);
    v_at := waypost.now_1();
    o_tick := v_end.o_tick + 1;
    o_position := v_end.o_position + 1;
    INSERT INTO waypost.log
        SELECT p_journal, v_end.o_tick + n, v_end.o_position + n, p_node, p_incarnation, p_batch, 0, '', record, v_at,
            v_end.o_bytes + sum(length(record)) OVER (ORDER BY n), s
        FROM unnest(p_records, p_sums) WITH ORDINALITY AS one (record, s, n);
END $$;

-- Does a batch of mixed operations in their order. Its last row tells what they returned, so that a lost answer is
-- found again: the first tick, and for each operation its position and its result.
CREATE OR REPLACE FUNCTION waypost.write_1(
    p_journal int, p_node int, p_incarnation bigint, p_batch bigint,
    p_kinds smallint[], p_keys bytea[], p_records bytea[], p_sums bigint[], p_arguments jsonb[]
) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_end record;
    v_at float8;
    v_tick bigint;
    v_position bigint;
    v_bytes bigint;
    v_done record;
    v_results jsonb[] := '{}';
    v_answer jsonb;
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM waypost.lock_journal_1(p_journal);
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    -- Statistics of tables that were vacuumed while they were empty lead to plans that read all of them.
    PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
        set_config('enable_sort', 'off', true);
    v_end := waypost.log_end_1(p_journal);
    v_at := waypost.now_1();
    v_tick := v_end.o_tick;
    v_position := v_end.o_position;
    v_bytes := v_end.o_bytes;
    FOR n IN 1 .. cardinality(p_kinds) LOOP
        IF p_kinds[n] = 0 THEN
            v_tick := v_tick + 1;
            v_position := v_position + 1;
            v_bytes := v_bytes + length(p_records[n]);
            INSERT INTO waypost.log VALUES (p_journal, v_tick, v_position, p_node, p_incarnation, p_batch, 0, '',
                p_records[n], v_at, v_bytes, p_sums[n]);
            v_results := v_results || jsonb_build_object('p', v_position);
        ELSE
            v_done := waypost.session_operation_1(
                p_journal, p_node, p_incarnation, p_kinds[n], p_keys[n], p_records[n], p_arguments[n], v_position);
            IF v_done.row_kind IS NOT NULL THEN
                v_tick := v_tick + 1;
                INSERT INTO waypost.log VALUES (p_journal, v_tick, v_position, p_node, p_incarnation, p_batch,
                    v_done.row_kind, coalesce(v_done.row_head, ''), '', v_at, v_bytes, 0);
            END IF;
            v_results := v_results || jsonb_strip_nulls(jsonb_build_object(
                'p', v_position, 'r', v_done.result, 'd', encode(v_done.data, 'base64')));
        END IF;
    END LOOP;
    v_answer := jsonb_build_object('tick', v_end.o_tick + 1, 'last', v_tick + 1, 'results', to_jsonb(v_results));
    INSERT INTO waypost.log VALUES (p_journal, v_tick + 1, v_position, p_node, p_incarnation, p_batch, 1,
        convert_to(v_answer::text, 'UTF8'), '', v_at, v_bytes, 0);
    RETURN v_answer;
END $$;

-- Finds out whether a batch was done whose answer was lost: its answer, or NULL. The caller's incarnation is a later
-- one, so the batch can't be done any more. The row that this call leaves is committed before its answer counts: so
-- what it has seen is as safe.
CREATE OR REPLACE FUNCTION waypost.settle_1(
    p_journal int, p_node int, p_incarnation bigint, p_batch bigint, p_after bigint, p_by_incarnation bigint,
    p_by_batch bigint
) RETURNS jsonb LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_answer jsonb;
    v_last record;
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM waypost.lock_journal_1(p_journal);
    PERFORM waypost.node_check_1(p_node, p_by_incarnation);
    SELECT tick, kind, head INTO v_last FROM waypost.log
        WHERE journal = p_journal AND tick > p_after AND node = p_node AND incarnation = p_incarnation
            AND batch = p_batch ORDER BY tick DESC LIMIT 1;
    IF v_last.kind = 1 THEN
        v_answer := convert_from(v_last.head, 'UTF8')::jsonb;
    ELSIF v_last.kind IS NOT NULL THEN
        SELECT jsonb_build_object('tick', min(tick), 'position', min(position)) INTO v_answer FROM waypost.log
            WHERE journal = p_journal AND tick > p_after AND tick <= v_last.tick AND node = p_node
                AND incarnation = p_incarnation AND batch = p_batch;
    ELSIF p_after + 1 < (SELECT tick FROM waypost.log WHERE journal = p_journal ORDER BY tick LIMIT 1) THEN
        RAISE EXCEPTION 'the rows that would tell were trimmed' USING ERRCODE = 'WP011';
    END IF;
    PERFORM waypost.add_row_1(p_journal, p_node, p_by_incarnation, p_by_batch, 10::smallint, '');
    RETURN v_answer;
END $$;

-- ------------------------------------------------------------------------------------------------- opened, dropped

-- Opens a journal, and makes it if there is none; returns where it stands.
CREATE OR REPLACE FUNCTION waypost.open_journal_1(p_name text, p_generation text, p_node int, p_incarnation bigint)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_journal int;
BEGIN
    PERFORM waypost.begin_write_1();
    SELECT id INTO v_journal FROM waypost.journal WHERE name = p_name;
    IF NOT FOUND THEN
        INSERT INTO waypost.journal (name, made_at) VALUES (p_name, waypost.now_1())
            ON CONFLICT (name) DO NOTHING RETURNING id INTO v_journal;
        IF FOUND THEN
            INSERT INTO waypost.generation VALUES (v_journal, 1, p_generation, NULL);
        ELSE
            SELECT id INTO v_journal FROM waypost.journal WHERE name = p_name;
        END IF;
    END IF;
    PERFORM waypost.lock_journal_1(v_journal);
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    INSERT INTO waypost.open_journal VALUES (v_journal, p_node) ON CONFLICT DO NOTHING;
    RETURN waypost.journal_state_1(v_journal);
END $$;

-- The nodes that have a journal open.
CREATE TABLE IF NOT EXISTS waypost.open_journal (
    journal int NOT NULL,
    node int NOT NULL,
    PRIMARY KEY (journal, node)
);

-- Where a journal stands.
CREATE OR REPLACE FUNCTION waypost.journal_state_1(p_journal int) RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_end record;
    v_trimmed record;
BEGIN
    v_end := waypost.log_end_1(p_journal);
    SELECT position, bytes INTO v_trimmed FROM waypost.trimmed
        WHERE journal = p_journal ORDER BY number DESC LIMIT 1;
    RETURN jsonb_build_object('journal', p_journal, 'tick', v_end.o_tick, 'top', v_end.o_position,
        'size', v_end.o_bytes, 'oldest', coalesce(v_trimmed.position, 1), 'before', coalesce(v_trimmed.bytes, 0),
        'generations', (SELECT jsonb_agg(jsonb_build_array(name, last) ORDER BY number) FROM (
            SELECT number, name, last FROM waypost.generation WHERE journal = p_journal
                ORDER BY number DESC LIMIT 1001) AS newest));
END $$;

-- Removes a journal without sessions that no other living node has open. Returns 'dropped'; 'left' if another node has
-- it open, and this one has it no longer; 'followed' if it has sessions, and stays as it is.
CREATE OR REPLACE FUNCTION waypost.drop_journal_1(p_name text, p_node int, p_incarnation bigint) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_journal int;
BEGIN
    PERFORM waypost.begin_write_1();
    SELECT id INTO v_journal FROM waypost.journal WHERE name = p_name FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'dropped';
    END IF;
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    IF waypost.has_sessions_1(v_journal) THEN
        RETURN 'followed';
    END IF;
    DELETE FROM waypost.open_journal WHERE journal = v_journal AND node = p_node;
    IF EXISTS (SELECT FROM waypost.open_journal JOIN waypost.node ON id = node
        WHERE journal = v_journal AND state = 'alive')
    THEN
        RETURN 'left';
    END IF;
    PERFORM waypost.sessions_dropped_1(v_journal);
    DELETE FROM waypost.open_journal WHERE journal = v_journal;
    DELETE FROM waypost.log WHERE journal = v_journal;
    DELETE FROM waypost.trimmed WHERE journal = v_journal;
    DELETE FROM waypost.generation WHERE journal = v_journal;
    DELETE FROM waypost.journal WHERE id = v_journal;
    RETURN 'dropped';
END $$;

-- ------------------------------------------------------------------------------------------------------ generations

-- Begins a generation of each journal: the present ones end where they stand.
CREATE OR REPLACE FUNCTION waypost.generation_begin_1(p_reason text, p_ends_sessions boolean) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_journal int;
    v_number int;
    v_name text;
BEGIN
    PERFORM waypost.begin_write_1();
    FOR v_journal IN SELECT id FROM waypost.journal ORDER BY id LOOP
        PERFORM FROM waypost.journal WHERE id = v_journal FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        SELECT number INTO v_number FROM waypost.generation WHERE journal = v_journal ORDER BY number DESC LIMIT 1;
        UPDATE waypost.generation SET last = (waypost.log_end_1(v_journal)).o_position
            WHERE journal = v_journal AND number = v_number;
        -- Twelve letters and digits, 62 bits.
        v_name := substr(translate(encode(decode(replace(gen_random_uuid()::text, '-', ''), 'hex'), 'base64'),
            '+/=', ''), 1, 12);
        INSERT INTO waypost.generation VALUES (v_journal, coalesce(v_number, 0) + 1, v_name, NULL);
        DELETE FROM waypost.generation WHERE journal = v_journal AND number < v_number - 999;
        IF p_ends_sessions THEN
            -- An offset of an earlier generation leads nowhere, and by that its client is told what has happened.
            DELETE FROM waypost.generation WHERE journal = v_journal AND number <= v_number;
            PERFORM waypost.sessions_ended_1(v_journal, p_reason);
        END IF;
        PERFORM waypost.log_row_1(v_journal, 8::smallint, convert_to(v_name, 'UTF8'));
    END LOOP;
    PERFORM pg_notify('waypost', 'g');
END $$;

-- --------------------------------------------------------------------------------------------------------- following

-- The rows of journals after ticks; own events without their records. At most so many rows of each, and beyond the
-- first one only so many bytes.
CREATE OR REPLACE FUNCTION waypost.follow_1(
    p_node int, p_journals int[], p_ticks bigint[], p_bytes bigint[], p_rows int, p_most bigint
) RETURNS TABLE (
    journal int, tick bigint, "position" bigint, node int, incarnation bigint, batch bigint, kind smallint, head bytea,
    record bytea, bytes bigint
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY SELECT one.* FROM unnest(p_journals, p_ticks, p_bytes) AS asked (journal, tick, bytes)
        CROSS JOIN LATERAL (
            SELECT l.journal, l.tick, l.position, l.node, l.incarnation, l.batch, l.kind,
                CASE WHEN l.kind = 1 THEN ''::bytea ELSE l.head END,
                CASE WHEN l.node = p_node THEN ''::bytea ELSE l.record END, l.bytes
            FROM waypost.log AS l
            WHERE l.journal = asked.journal AND l.tick > asked.tick
                AND (l.tick = asked.tick + 1 OR l.bytes <= asked.bytes + p_most)
            ORDER BY l.tick LIMIT p_rows
        ) AS one;
END $$;

-- --------------------------------------------------------------------------------------------------------- retention

-- Deletes the first rows of a journal, as many of them as are beyond its limits, at most so many. Returns how many of
-- them were events, the tick of the row that tells of it (0: nothing was deleted), and whether there may be more. The
-- newest row stays: it is that one then. A reader with an old snapshot sees what was deleted, and holds nobody up.
CREATE OR REPLACE FUNCTION waypost.trim_journal_1(
    p_journal int, p_max_age_s float8, p_max_entries bigint, p_max_bytes bigint, p_rows int,
    OUT o_events bigint, OUT o_tick bigint, OUT o_more boolean
) LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_end record;
    v_tick bigint;
    v_position bigint;
    v_bytes bigint;
    v_number bigint;
    v_first bigint;
    v_stays bigint;
    v_last record;
    v_now float8 := waypost.now_1();
BEGIN
    o_events := 0;
    o_tick := 0;
    o_more := false;
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.journal WHERE id = p_journal FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_end := waypost.log_end_1(p_journal);
    SELECT number, tick, position, bytes INTO v_number, v_tick, v_position, v_bytes FROM waypost.trimmed
        WHERE journal = p_journal ORDER BY number DESC LIMIT 1;
    v_first := coalesce(v_tick, 1);
    -- The last event that has to go, with all before it; then rows that are no events, once nobody lags behind them.
    SELECT max(tick) + 1 INTO v_stays FROM (
        SELECT l.tick, l.position, l.bytes, l.at, l.kind, length(l.record) AS size FROM waypost.log AS l
            WHERE l.journal = p_journal AND l.tick >= v_first ORDER BY l.tick LIMIT p_rows
    ) AS one WHERE one.kind = 0 AND (one.at < v_now - p_max_age_s
        OR one.position <= v_end.o_position - p_max_entries OR v_end.o_bytes - one.bytes + one.size > p_max_bytes);
    v_stays := coalesce(v_stays, v_first);
    IF v_stays < v_first + p_rows THEN
        SELECT coalesce(min(tick), least(v_first + p_rows, v_end.o_tick + 1)) INTO v_stays FROM (
            SELECT l.tick, l.at, l.kind FROM waypost.log AS l
                WHERE l.journal = p_journal AND l.tick >= v_stays ORDER BY l.tick LIMIT v_first + p_rows - v_stays
        ) AS one WHERE one.kind = 0 OR one.at >= v_now - 600;
    END IF;
    SELECT position, bytes INTO v_last FROM waypost.log WHERE journal = p_journal AND tick = v_stays - 1;
    -- Each time leaves a row: not for a few that are no events.
    IF v_stays = v_first OR v_last.position IS NULL
        OR v_last.position < coalesce(v_position, 1) AND v_stays - v_first < 1000
    THEN
        RETURN;
    END IF;
    o_events := v_last.position + 1 - coalesce(v_position, 1);
    o_more := v_stays - v_first >= p_rows;
    INSERT INTO waypost.trimmed VALUES (p_journal, coalesce(v_number, 0) + 1, v_stays, v_last.position + 1,
        v_last.bytes);
    DELETE FROM waypost.trimmed WHERE journal = p_journal AND number < v_number;
    o_tick := waypost.log_row_1(p_journal, 9::smallint,
        convert_to(jsonb_build_array(v_last.position + 1, v_last.bytes)::text, 'UTF8'));
    DELETE FROM waypost.log WHERE journal = p_journal AND tick >= v_first AND tick < v_stays;
END $$;

-- --------------------------------------------------------------------------------------------------------- reading

-- Events after a position, up to a position; beyond the first one only so many bytes.
CREATE OR REPLACE FUNCTION waypost.read_1(
    p_journal int, p_after bigint, p_upto bigint, p_entries bigint, p_most bigint
) RETURNS TABLE ("position" bigint, record bytea, sum bigint) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    v_before bigint;
BEGIN
    SELECT l.bytes - length(l.record) INTO v_before FROM waypost.log AS l
        WHERE l.journal = p_journal AND l.kind = 0 AND l.position > p_after ORDER BY l.position LIMIT 1;
    RETURN QUERY SELECT l.position, l.record, l.sum FROM waypost.log AS l
        WHERE l.journal = p_journal AND l.kind = 0 AND l.position > p_after AND l.position <= p_upto
            AND (l.position = p_after + 1 OR l.bytes - v_before <= p_most)
        ORDER BY l.position LIMIT p_entries;
END $$;
