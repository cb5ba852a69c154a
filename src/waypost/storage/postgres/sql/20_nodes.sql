-- Nodes: who writes, who is alive, who owns which consumer, and who does the upkeep.
--
-- Locks are taken in this order: a node's beat, its writes (an advisory lock), its row, journals and queues by id,
-- consumers' owners, leases.

CREATE TABLE IF NOT EXISTS waypost.node (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    -- Of writes, only those of the node's newest incarnation count.
    incarnation bigint NOT NULL,
    state text NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'dead', 'stopped')),
    -- How often it was declared dead. It comes back by `renew_1`.
    deaths int NOT NULL DEFAULT 0,
    -- Where other nodes reach it. Without one it is no server: a command that writes, and is gone after a moment.
    address text NOT NULL,
    version text NOT NULL,
    -- The newest version of the schema that it knows.
    knows int NOT NULL,
    options jsonb NOT NULL,
    started_at float8 NOT NULL,
    ended_at float8
);

-- Each write looks at the node's row, so what changes every two seconds is in another one.
CREATE TABLE IF NOT EXISTS waypost.beat (
    node int PRIMARY KEY,
    counter bigint NOT NULL,
    -- For how long the node's event loop has stood still.
    stuck_s float8 NOT NULL,
    -- The server's process that took the beat, and when it began: a number alone is used again.
    backend text NOT NULL,
    -- The store's time.
    at float8 NOT NULL
) WITH (fillfactor = 20);

-- One row. For how long no living node's beat came through: the lives of sessions stood still.
CREATE TABLE IF NOT EXISTS waypost.standstill (
    id int PRIMARY KEY CHECK (id = 1),
    total_s float8 NOT NULL
);
INSERT INTO waypost.standstill VALUES (1, 0) ON CONFLICT DO NOTHING;

-- One row. The node that does the upkeep; 0: none.
CREATE TABLE IF NOT EXISTS waypost.upkeep (
    id int PRIMARY KEY CHECK (id = 1),
    node int NOT NULL
);
INSERT INTO waypost.upkeep VALUES (1, 0) ON CONFLICT DO NOTHING;

-- The row stays when nobody owns the consumer (no node): a write for it has something to lock.
CREATE TABLE IF NOT EXISTS waypost.consumer_owner (
    queue text NOT NULL,
    consumer text NOT NULL,
    node int,
    fence bigint NOT NULL,
    PRIMARY KEY (queue, consumer)
);
CREATE INDEX IF NOT EXISTS consumer_owner_node ON waypost.consumer_owner (node) WHERE node IS NOT NULL;

-- What the parts do when a node is dead, has stopped or comes back, in the same transaction; each is replaced by the
-- script of its part.
CREATE OR REPLACE FUNCTION waypost.sessions_of_dead_1(p_node int, p_ttl_s float8) RETURNS void
LANGUAGE sql AS 'SELECT';
CREATE OR REPLACE FUNCTION waypost.sessions_renewed_1(p_node int) RETURNS void
LANGUAGE sql AS 'SELECT';
CREATE OR REPLACE FUNCTION waypost.queues_of_dead_1(p_node int, p_name text, p_is_stopped boolean) RETURNS void
LANGUAGE sql AS 'SELECT';

-- ---------------------------------------------------------------------------------------------------- who writes

-- Called by each function that writes, after it has taken its lock. Refuses a node that is dead for the others
-- (WP001). The lock of its own lasts to the end of the transaction: a declaration of death waits for it, and while
-- that is under way there is none to be had. So no write comes after the declaration, and none waits for it.
CREATE OR REPLACE FUNCTION waypost.node_check_1(p_node int, p_incarnation bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(1465997648, p_node) OR NOT EXISTS (
        SELECT FROM waypost.node WHERE id = p_node AND incarnation = p_incarnation AND state = 'alive')
    THEN
        RAISE EXCEPTION 'the node is not this one any more: expected its newest incarnation, came %', p_incarnation
            USING ERRCODE = 'WP001';
    END IF;
END $$;

-- The server's process of this session.
CREATE OR REPLACE FUNCTION waypost.backend_1() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT pid || ' ' || coalesce(extract(epoch FROM backend_start)::text, '')
        FROM pg_stat_get_activity(pg_backend_pid())
$$;

-- Whether a server's process is gone. Another role's is there as long as any has its number.
CREATE OR REPLACE FUNCTION waypost.backend_is_gone_1(p_backend text) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT NOT EXISTS (
        SELECT FROM pg_stat_get_activity(split_part(p_backend, ' ', 1)::int) AS one
        WHERE one.backend_start IS NULL OR split_part(p_backend, ' ', 2) IN ('', extract(epoch FROM backend_start)::text))
$$;

-- A new node. Returns its number and incarnation, and whether it is the first server: of the others none has a beat
-- whose process in the engine is there. Those are dead then, at once; but not when the engine itself has just begun, as
-- living nodes are still on their way back.
CREATE OR REPLACE FUNCTION waypost.enter_1(
    p_name text, p_address text, p_version text, p_options jsonb, p_ttl_s float8, p_knows int DEFAULT 1,
    OUT o_node int, OUT o_incarnation bigint, OUT o_is_cold boolean
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_other record;
BEGIN
    PERFORM waypost.begin_write_1();
    -- One at a time: of two that come together, the second one finds the first.
    PERFORM pg_advisory_xact_lock(1465997648, 0);
    -- The schema may have changed since the node has looked at it.
    IF p_knows < (SELECT value::int FROM waypost.setting WHERE key = 'oldest_user') THEN
        RAISE EXCEPTION 'the schema is for servers that know a later version of it, and this Waypost knows %; upgrade '
            'this server', p_knows USING ERRCODE = 'WP010';
    END IF;
    o_is_cold := p_address <> '' AND NOT EXISTS (
        SELECT FROM waypost.node JOIN waypost.beat ON node = id
        WHERE state = 'alive' AND address <> '' AND NOT waypost.backend_is_gone_1(backend));
    IF o_is_cold AND pg_postmaster_start_time() < clock_timestamp() - interval '10 s' THEN
        FOR v_other IN SELECT id, incarnation, counter FROM waypost.node JOIN waypost.beat ON node = id
            WHERE state = 'alive' AND waypost.backend_is_gone_1(backend) ORDER BY id
        LOOP
            BEGIN
                PERFORM waypost.declare_1(v_other.id, v_other.incarnation, v_other.counter, p_ttl_s);
            EXCEPTION WHEN lock_not_available THEN
                -- Something it has begun still runs in the server; its beats tell later that it is dead.
                RAISE DEBUG 'node % is declared dead later', v_other.id;
            END;
        END LOOP;
    END IF;
    IF o_is_cold AND EXISTS (SELECT FROM waypost.node WHERE address <> '') THEN
        -- What an older copy lacks, nobody is left to know: offsets that are beyond the noted end tell.
        PERFORM waypost.era_begin_1('all servers had stopped', false);
    END IF;
    -- A number that no lost history has given to the writes of a node of the same id.
    o_incarnation := (random() * 1e12)::bigint * 1000;
    INSERT INTO waypost.node (name, incarnation, address, version, knows, options, started_at)
        VALUES (p_name, o_incarnation, p_address, p_version, p_knows, p_options, waypost.now_1()) RETURNING id INTO o_node;
    PERFORM waypost.stood_still_1();
    INSERT INTO waypost.beat VALUES (o_node, 1, 0, waypost.backend_1(), waypost.now_1());
    PERFORM pg_notify('waypost', 'n');
END $$;

-- The node's next incarnation; NULL if nobody knows the node: the history that had it is lost. Writes of the earlier
-- incarnation that are still on their way are refused from now on. A node that was declared dead is alive again.
CREATE OR REPLACE FUNCTION waypost.renew_1(
    p_node int, p_name text, OUT o_incarnation bigint, OUT o_was_dead boolean
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_state text;
BEGIN
    PERFORM waypost.begin_write_1();
    -- Not while a declaration is under way.
    PERFORM FROM waypost.beat WHERE node = p_node FOR UPDATE;
    -- In an older copy of the database the number may be another node's by now.
    SELECT state, incarnation + 1 INTO v_state, o_incarnation FROM waypost.node
        WHERE id = p_node AND name = p_name FOR UPDATE;
    IF v_state IS NULL OR v_state = 'stopped' THEN
        o_incarnation := NULL;
        RETURN;
    END IF;
    o_was_dead := v_state = 'dead';
    UPDATE waypost.node SET incarnation = o_incarnation, state = 'alive', ended_at = NULL WHERE id = p_node;
    UPDATE waypost.beat SET counter = counter + 1 WHERE node = p_node;
    IF o_was_dead THEN
        PERFORM waypost.sessions_renewed_1(p_node);
        PERFORM pg_notify('waypost', 'n');
    END IF;
END $$;

-- Nothing of the node is left but its row: its consumers have no owner, nor has the upkeep.
CREATE OR REPLACE FUNCTION waypost.node_ended_1(p_node int, p_state text, p_ttl_s float8) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_name text;
BEGIN
    UPDATE waypost.node SET state = p_state, incarnation = incarnation + 1, ended_at = waypost.now_1(),
        deaths = deaths + (p_state = 'dead')::int WHERE id = p_node RETURNING name INTO v_name;
    PERFORM waypost.sessions_of_dead_1(p_node, p_ttl_s);
    PERFORM waypost.queues_of_dead_1(p_node, v_name, p_state = 'stopped');
    PERFORM waypost.free_1(p_node);
END $$;

-- A clean stop.
CREATE OR REPLACE FUNCTION waypost.leave_1(p_node int, p_incarnation bigint, p_ttl_s float8) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.beat WHERE node = p_node FOR UPDATE;
    PERFORM pg_advisory_xact_lock(1465997648, p_node);
    IF EXISTS (SELECT FROM waypost.node WHERE id = p_node AND incarnation = p_incarnation AND state = 'alive') THEN
        PERFORM waypost.node_ended_1(p_node, 'stopped', p_ttl_s);
    END IF;
END $$;

-- ----------------------------------------------------------------------------------------------------- who lives

-- Raises a node's counter, takes the upkeep if nobody has it, and returns what the node sees: its time and the
-- server's own, who has the upkeep, and the living nodes.
CREATE OR REPLACE FUNCTION waypost.beat_1(p_node int, p_name text, p_stuck_s float8, p_may_lead boolean)
RETURNS jsonb LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_is_fenced boolean;
    v_upkeep int;
BEGIN
    -- What a crash of the server takes back of this, the next beat does again.
    PERFORM set_config('synchronous_commit', 'off', true);
    PERFORM waypost.stood_still_1();
    UPDATE waypost.beat SET counter = counter + 1, stuck_s = p_stuck_s, backend = waypost.backend_1(),
        at = waypost.now_1() FROM waypost.node WHERE beat.node = p_node AND id = p_node AND name = p_name;
    v_is_fenced := NOT EXISTS (SELECT FROM waypost.node WHERE id = p_node AND name = p_name AND state = 'alive');
    SELECT node INTO v_upkeep FROM waypost.upkeep WHERE id = 1;
    IF v_upkeep = p_node AND NOT v_is_fenced THEN
        -- Whether a standby that is promoted later has all that was confirmed: as the server was that wrote it.
        UPDATE waypost.setting SET value = (current_setting('synchronous_standby_names') <> '')::text
            WHERE key = 'is_synchronous' AND value <> (current_setting('synchronous_standby_names') <> '')::text
                AND waypost.history_1() = (SELECT value FROM waypost.setting WHERE key = 'history');
    ELSIF p_may_lead AND NOT v_is_fenced AND EXISTS (SELECT FROM waypost.node WHERE id = p_node AND address <> '')
        AND NOT EXISTS (SELECT FROM waypost.node WHERE id = v_upkeep AND state = 'alive')
    THEN
        UPDATE waypost.upkeep SET node = p_node WHERE id = 1 AND node = v_upkeep;
        v_upkeep := (SELECT node FROM waypost.upkeep WHERE id = 1);
    END IF;
    RETURN jsonb_build_object(
        'is_fenced', v_is_fenced,
        'now', waypost.now_1(),
        'engine', extract(epoch FROM clock_timestamp())::float8,
        'ahead_s', (SELECT ahead_s FROM waypost.clock WHERE id = 1),
        'upkeep', v_upkeep,
        'nodes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'id', id, 'name', name, 'incarnation', incarnation, 'deaths', deaths, 'address', address,
            'counter', counter, 'stuck_s', stuck_s) ORDER BY id), '[]')
            FROM waypost.node JOIN waypost.beat ON node = id WHERE state = 'alive'));
END $$;

-- Those of some nodes whose beats came over a server process that is gone.
CREATE OR REPLACE FUNCTION waypost.cut_off_1(p_nodes int[]) RETURNS int[] LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(array_agg(node), '{}') FROM waypost.beat
        WHERE node = ANY (p_nodes) AND waypost.backend_is_gone_1(backend)
$$;

-- Declares a node dead whose counter has not risen; returns whether it was this call that did it. The end of its
-- sessions' lives and of what it had in hand is the same transaction.
CREATE OR REPLACE FUNCTION waypost.declare_1(p_node int, p_incarnation bigint, p_counter bigint, p_ttl_s float8)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_name text;
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.beat WHERE node = p_node AND counter = p_counter FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT name INTO v_name FROM waypost.node
        WHERE id = p_node AND incarnation = p_incarnation AND state = 'alive';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- What it left open, and does not read or go on with, has locks that everybody waits for. The names of its
    -- connections end with its own.
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
            AND xact_start IS NOT NULL AND wait_event_type = 'Client'
            AND application_name LIKE 'waypost %' AND right(application_name, length(v_name) + 1) = ' ' || v_name;
    -- A write that goes on in the server, such as one that waits for a standby, ends first.
    PERFORM set_config('lock_timeout', '5s', true);
    PERFORM pg_advisory_xact_lock(1465997648, p_node);
    PERFORM waypost.node_ended_1(p_node, 'dead', p_ttl_s);
    RETURN true;
END $$;

-- ------------------------------------------------------------------------------------------- who owns which consumer

-- Owns a consumer that nobody owns; returns the name of the node that owns it, and a number that rises with each
-- owner.
CREATE OR REPLACE FUNCTION waypost.claim_consumer_1(
    p_node int, p_incarnation bigint, p_queue text, p_consumer text, OUT o_name text, OUT o_fence bigint
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_owner int;
BEGIN
    PERFORM waypost.begin_write_1();
    INSERT INTO waypost.consumer_owner VALUES (p_queue, p_consumer, NULL, 0) ON CONFLICT DO NOTHING;
    SELECT node INTO v_owner FROM waypost.consumer_owner
        WHERE queue = p_queue AND consumer = p_consumer FOR UPDATE;
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    IF v_owner IS NULL THEN
        INSERT INTO waypost.consumer_owner VALUES (p_queue, p_consumer, p_node, 1)
            ON CONFLICT (queue, consumer) DO UPDATE SET node = p_node, fence = consumer_owner.fence + 1;
        v_owner := p_node;
    END IF;
    SELECT name, fence INTO o_name, o_fence FROM waypost.consumer_owner AS owner JOIN waypost.node
        ON node.id = owner.node WHERE queue = p_queue AND consumer = p_consumer;
END $$;

CREATE OR REPLACE FUNCTION waypost.release_consumer_1(p_node int, p_incarnation bigint, p_queue text, p_consumer text)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.consumer_owner WHERE queue = p_queue AND consumer = p_consumer FOR UPDATE;
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    UPDATE waypost.consumer_owner SET node = NULL WHERE queue = p_queue AND consumer = p_consumer AND node = p_node;
    PERFORM pg_notify('waypost', 'n');
END $$;

-- Takes all consumers, and the upkeep, from a node.
CREATE OR REPLACE FUNCTION waypost.free_1(p_node int) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM FROM waypost.consumer_owner WHERE node = p_node ORDER BY queue, consumer FOR UPDATE;
    UPDATE waypost.consumer_owner SET node = NULL WHERE node = p_node;
    UPDATE waypost.upkeep SET node = 0 WHERE id = 1 AND node = p_node;
    PERFORM pg_notify('waypost', 'n');
END $$;

-- Takes all consumers from a living node whose event loop stands still, and has done so since a beat of it.
CREATE OR REPLACE FUNCTION waypost.relieve_1(p_node int, p_counter bigint, p_least_s float8) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM FROM waypost.beat WHERE node = p_node AND counter >= p_counter AND stuck_s >= p_least_s FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM waypost.free_1(p_node);
    RETURN true;
END $$;

-- The names of the nodes that own some consumers; NULL for one that nobody owns.
CREATE OR REPLACE FUNCTION waypost.owners_1(p_queues text[], p_consumers text[])
RETURNS TABLE (o_queue text, o_consumer text, o_name text) LANGUAGE sql VOLATILE AS $$
    SELECT asked.queue, asked.consumer, node.name FROM unnest(p_queues, p_consumers) AS asked (queue, consumer)
        LEFT JOIN waypost.consumer_owner AS owner USING (queue, consumer)
        LEFT JOIN waypost.node ON node.id = owner.node
$$;

-- Whether a node does the upkeep.
CREATE OR REPLACE FUNCTION waypost.leads_1(p_node int) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (SELECT FROM waypost.upkeep WHERE id = 1 AND node = p_node)
$$;

-- -------------------------------------------------------------------------------------------------------- time

-- The server's clock has made a step: the store's goes on without it. ``p_seen_s`` is what the caller has seen, so
-- that of two callers one counts.
CREATE OR REPLACE FUNCTION waypost.clock_stepped_1(p_by_s float8, p_seen_s float8) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    UPDATE waypost.clock SET ahead_s = ahead_s - p_by_s WHERE id = 1 AND ahead_s = p_seen_s;
END $$;

-- The time by which the lives of detached sessions run, in seconds: it stands still from 4 s after the newest beat of
-- a living server to the next one. While the engine is away, or no server reaches it, no client can come back. A session of
-- the server's that has a clock of its own goes by that.
CREATE OR REPLACE FUNCTION waypost.lives_1() RETURNS float8 LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF nullif(current_setting('waypost.now', true), '') IS NOT NULL THEN
        RETURN waypost.now_1();
    END IF;
    RETURN least(waypost.now_1(), (SELECT max(at) + 4 FROM waypost.beat JOIN waypost.node ON id = node
            WHERE state = 'alive' AND address <> '')) - (SELECT total_s FROM waypost.standstill WHERE id = 1);
END $$;

-- Called right before a beat: adds up for how long no server's came. The row's lock makes one node do it.
CREATE OR REPLACE FUNCTION waypost.stood_still_1() RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF waypost.now_1() > (SELECT max(at) + 4 FROM waypost.beat JOIN waypost.node ON id = node
            WHERE state = 'alive' AND address <> '')
    THEN
        PERFORM FROM waypost.standstill WHERE id = 1 FOR UPDATE;
        UPDATE waypost.standstill SET total_s = total_s + greatest(0, waypost.now_1() - (
            SELECT max(at) + 4 FROM waypost.beat JOIN waypost.node ON id = node
                WHERE state = 'alive' AND address <> '')) WHERE id = 1;
    END IF;
END $$;

-- Forgets nodes that ended long ago. Their numbers stand in rows of the log until those are trimmed; their names are
-- only for people by then.
CREATE OR REPLACE FUNCTION waypost.forget_nodes_1(p_keep_s float8) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    DELETE FROM waypost.beat USING waypost.node
        WHERE id = beat.node AND state <> 'alive' AND ended_at < waypost.now_1() - p_keep_s;
    DELETE FROM waypost.node WHERE state <> 'alive' AND ended_at < waypost.now_1() - p_keep_s;
END $$;
