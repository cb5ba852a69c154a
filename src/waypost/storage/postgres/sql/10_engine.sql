-- What all parts share: settings, the clock, the marks of writes, and the conditions under which a write may run.

CREATE TABLE IF NOT EXISTS waypost.setting (
    key text PRIMARY KEY,
    value text NOT NULL
);

-- One row. By how many seconds the store's clock is ahead of the server's: it goes on when the server's is set.
CREATE TABLE IF NOT EXISTS waypost.clock (
    id int PRIMARY KEY CHECK (id = 1),
    ahead_s float8 NOT NULL
);
INSERT INTO waypost.clock VALUES (1, 0) ON CONFLICT DO NOTHING;

-- The store's time, in seconds. A session that has set `waypost.now` has a clock of its own, as tests do.
CREATE OR REPLACE FUNCTION waypost.now_1() RETURNS float8 LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN coalesce(nullif(current_setting('waypost.now', true), '')::float8,
        extract(epoch FROM clock_timestamp())::float8 + (SELECT ahead_s FROM waypost.clock WHERE id = 1));
END $$;

-- The writes of queues and answers that were done, with what they returned: what a lost answer is settled by. The
-- rows of a journal's log carry their marks themselves.
CREATE TABLE IF NOT EXISTS waypost.write_mark (
    node int NOT NULL,
    incarnation bigint NOT NULL,
    batch bigint NOT NULL,
    results jsonb,
    at float8 NOT NULL,
    PRIMARY KEY (node, incarnation, batch)
);

-- Called first in each function that writes. The setting lasts to the commit; a SET clause of a function would not.
CREATE OR REPLACE FUNCTION waypost.begin_write_1() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a write of Waypost''s needs the isolation level read committed, and runs at %',
            current_setting('transaction_isolation') USING ERRCODE = 'WP008';
    END IF;
    IF current_setting('synchronous_commit') NOT IN ('on', 'remote_apply') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
END $$;

-- Removes marks that are older than a time, at most so many of each node; returns whether there may be more. They are
-- read in the order of the key, which is that of their time for each node, so only what goes is read.
CREATE OR REPLACE FUNCTION waypost.trim_marks_1(p_kept_s float8, p_rows int) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    v_node int := -1;
    v_before float8 := waypost.now_1() - p_kept_s;
    v_removed bigint;
    v_more boolean := false;
BEGIN
    LOOP
        SELECT node INTO v_node FROM waypost.write_mark WHERE node > v_node ORDER BY node LIMIT 1;
        EXIT WHEN NOT FOUND;
        DELETE FROM waypost.write_mark AS mark USING (
            SELECT one.node, one.incarnation, one.batch, one.at FROM waypost.write_mark AS one
                WHERE one.node = v_node ORDER BY one.node, one.incarnation, one.batch LIMIT p_rows
        ) AS oldest WHERE oldest.at < v_before AND mark.node = oldest.node
            AND mark.incarnation = oldest.incarnation AND mark.batch = oldest.batch;
        GET DIAGNOSTICS v_removed = ROW_COUNT;
        v_more := v_more OR v_removed >= p_rows;
    END LOOP;
    RETURN v_more;
END $$;
