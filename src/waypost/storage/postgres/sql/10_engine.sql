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
