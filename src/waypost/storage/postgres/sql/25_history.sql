-- The engine's history: what was confirmed stays, or all nodes learn that it was undone.

-- The histories so far, each with a random name. A node that knows another one than the newest has something to
-- learn; if the one it knows is not here, what stands here is an older copy.
CREATE TABLE IF NOT EXISTS waypost.era (
    n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    reason text NOT NULL,
    at float8 NOT NULL,
    -- The era that a node knew and this database did not, where that was the reason.
    lost text
);
-- Whether all sessions ended with its beginning: the database may have lost what was confirmed before.
ALTER TABLE waypost.era ADD COLUMN IF NOT EXISTS ends_sessions boolean NOT NULL DEFAULT true;

-- Begins a generation of every journal, and notes the ends; with ``p_ends_sessions`` all sessions end, with the
-- reason. Replaced by the script of the journals.
CREATE OR REPLACE FUNCTION waypost.generation_begin_1(p_reason text, p_ends_sessions boolean) RETURNS void
LANGUAGE sql AS 'SELECT';
-- The same for queues.
CREATE OR REPLACE FUNCTION waypost.queues_forked_1() RETURNS void LANGUAGE sql AS 'SELECT';

-- The identifier of the database system, and the timeline of what it writes.
CREATE OR REPLACE FUNCTION waypost.history_1() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'the server is a standby, which takes no writes: expected its primary' USING ERRCODE = 'WP009';
    END IF;
    RETURN (SELECT system_identifier FROM pg_control_system()) || ' '
        || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8);
END $$;

CREATE OR REPLACE FUNCTION waypost.era_begin_1(p_reason text, p_ends_sessions boolean, p_lost text DEFAULT NULL)
RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_name text := md5(random()::text || clock_timestamp()::text || pg_backend_pid()::text);
BEGIN
    INSERT INTO waypost.era (name, reason, at, lost, ends_sessions)
        VALUES (v_name, p_reason, waypost.now_1(), p_lost, p_ends_sessions);
    PERFORM waypost.generation_begin_1(p_reason, p_ends_sessions);
    PERFORM waypost.queues_forked_1();
    PERFORM waypost.history_note_1();
    PERFORM pg_notify('waypost', 'n');
    RETURN v_name;
END $$;

-- Notes the history under which all of this was written, and whether a promoted standby has all that was confirmed.
CREATE OR REPLACE FUNCTION waypost.history_note_1() RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO waypost.setting VALUES ('history', waypost.history_1()),
        ('is_synchronous', (current_setting('synchronous_standby_names') <> '')::text)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE setting.value <> excluded.value
$$;

-- Whether rows that a node has applied are not those of the log: journals, ticks, and the marks of those rows.
CREATE OR REPLACE FUNCTION waypost.log_differs_1(
    p_journals int[], p_ticks bigint[], p_nodes int[], p_incarnations bigint[], p_batches bigint[]
) RETURNS boolean LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM unnest(p_journals, p_ticks, p_nodes, p_incarnations, p_batches)
            AS seen (journal, tick, node, incarnation, batch)
        WHERE NOT EXISTS (SELECT FROM waypost.log WHERE log.journal = seen.journal AND log.tick = seen.tick
                AND log.node = seen.node AND log.incarnation = seen.incarnation AND log.batch = seen.batch)
            -- What was trimmed says nothing; the newest row is never trimmed.
            AND (EXISTS (SELECT FROM waypost.log WHERE log.journal = seen.journal AND log.tick = seen.tick)
                OR NOT EXISTS (SELECT FROM waypost.log WHERE log.journal = seen.journal AND log.tick > seen.tick)));
END $$;

-- Called on each new connection: begins an era if the history is not the one that was noted, or not the node's.
-- ``p_era`` is what the node knows, NULL at its first. Returns the era that counts.
CREATE OR REPLACE FUNCTION waypost.history_check_1(
    p_era text, p_journals int[], p_ticks bigint[], p_nodes int[], p_incarnations bigint[], p_batches bigint[]
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_history text := waypost.history_1();
    v_noted text;
    v_newest text;
    v_reason text := '';
    v_ends boolean := true;
BEGIN
    PERFORM waypost.begin_write_1();
    SELECT value INTO v_noted FROM waypost.setting WHERE key = 'history';
    SELECT name INTO v_newest FROM waypost.era ORDER BY n DESC LIMIT 1;
    IF v_noted = v_history AND v_newest IS NOT NULL AND coalesce(p_era, v_newest) = v_newest
        AND NOT waypost.log_differs_1(p_journals, p_ticks, p_nodes, p_incarnations, p_batches)
    THEN
        RETURN v_newest;
    END IF;
    -- One at a time: the second one finds what the first has begun.
    PERFORM pg_advisory_xact_lock(1465997648, 0);
    SELECT value INTO v_noted FROM waypost.setting WHERE key = 'history';
    SELECT name INTO v_newest FROM waypost.era ORDER BY n DESC LIMIT 1;
    IF v_newest IS NULL THEN
        v_reason := 'the beginning';
        v_ends := false;
    ELSIF split_part(v_noted, ' ', 1) <> split_part(v_history, ' ', 1) THEN
        v_reason := 'the database is in another database system: a restored copy';
    ELSIF v_noted <> v_history THEN
        -- A promoted standby. With synchronous replication it has all that was confirmed.
        v_reason := 'the server goes on from another one''s history';
        v_ends := NOT coalesce((SELECT value::boolean FROM waypost.setting WHERE key = 'is_synchronous'), false);
    ELSIF p_era IS NOT NULL AND NOT EXISTS (SELECT FROM waypost.era WHERE p_era IN (name, lost)) THEN
        v_reason := 'the database is an older copy';
    ELSIF coalesce(p_era, v_newest) = v_newest
        AND waypost.log_differs_1(p_journals, p_ticks, p_nodes, p_incarnations, p_batches)
    THEN
        v_reason := 'the database has lost what it had confirmed';
    END IF;
    IF v_reason <> '' THEN
        RETURN waypost.era_begin_1(v_reason, v_ends, p_era);
    END IF;
    RETURN v_newest;
END $$;

-- Whether a node that knows an era goes on from what it has applied: no session has ended with an era since.
CREATE OR REPLACE FUNCTION waypost.goes_on_1(p_era text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_n int;
BEGIN
    SELECT n INTO v_n FROM waypost.era WHERE name = p_era;
    RETURN FOUND AND NOT EXISTS (SELECT FROM waypost.era WHERE n > v_n AND ends_sessions);
END $$;

-- For people: the database was restored from a copy.
CREATE OR REPLACE FUNCTION waypost.restored_1() RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM pg_advisory_xact_lock(1465997648, 0);
    RETURN waypost.era_begin_1('the database was restored from a copy', true);
END $$;

-- For people: the identifier or the timeline has changed, and nothing was lost: an upgrade.
CREATE OR REPLACE FUNCTION waypost.adopt_1() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM pg_advisory_xact_lock(1465997648, 0);
    PERFORM waypost.history_note_1();
END $$;
