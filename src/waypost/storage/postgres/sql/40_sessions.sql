-- Sessions: who is their home, who claims them, and what they have. All writes for the sessions of one journal are made
-- under the lock of the journal's row, so no function here locks a row of a session.
--
-- Times are those of `lives_1`, which stands still while no node reaches the engine: a session whose client can't come
-- back does not end.
--
-- Texts that come from outside (rooms, sids) are kept as bytes, as a text here can't hold every character. In arguments
-- and results they are hexadecimal.
--
-- No statement may depend on what the planner knows of a table's size: a plan that was made while it was empty is used
-- when it is large. So there is one index for each look-up, and no other one that could serve it. An index that would
-- is partial, with a condition that holds always and that only its own statements repeat.

CREATE TABLE IF NOT EXISTS waypost.session (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    journal     int NOT NULL,
    key         bytea NOT NULL,
    sid         bytea NOT NULL,
    start       bigint NOT NULL,
    data        bytea NOT NULL,
    data_sum    bytea NOT NULL,          -- of key and data
    marks       bytea NOT NULL,          -- the sum of sid and start
    expires_at  float8,                  -- NULL while it is attached or claimed
    stuck_at    bigint NOT NULL DEFAULT 0,
    stuck_times int NOT NULL DEFAULT 0,
    -- The living node that attached it last, NULL without one; and that node, alive or dead.
    home        int,
    last_home   int,
    -- Whether its home was declared dead while it had it attached, and nobody has claimed it since. If that node is
    -- alive after all, it is the home again.
    is_orphan   boolean NOT NULL DEFAULT false,
    -- What the home has said: whether it has it attached, and when it ends otherwise.
    home_attached   boolean NOT NULL DEFAULT false,
    home_expires_at float8,
    -- What the home has handed over for the next life; NULL as long as it has a life of the session.
    handed      bytea,
    is_asked    boolean NOT NULL DEFAULT false,
    -- The node that claimed it last, and has neither attached it nor given it up.
    claimer     int,
    UNIQUE (journal, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS session_sid ON waypost.session (sid, journal) WHERE start >= 0;
CREATE INDEX IF NOT EXISTS session_expiry ON waypost.session (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS session_home ON waypost.session (home) WHERE home IS NOT NULL;
CREATE INDEX IF NOT EXISTS session_orphan ON waypost.session (last_home) WHERE is_orphan;
CREATE INDEX IF NOT EXISTS session_claimer ON waypost.session (claimer) WHERE claimer IS NOT NULL;

-- What sessions have proven. Each note is a row; the one with the highest position counts.
CREATE TABLE IF NOT EXISTS waypost.proof (
    session  bigint NOT NULL,
    position bigint NOT NULL,
    last     bigint NOT NULL,
    sum      bytea NOT NULL,
    PRIMARY KEY (session, position)
);

-- Rooms that a session is in.
CREATE TABLE IF NOT EXISTS waypost.membership (
    session bigint NOT NULL,
    room    bytea NOT NULL,
    since   bigint NOT NULL,
    journal int NOT NULL,
    sum     bytea NOT NULL,
    PRIMARY KEY (session, room)
);
CREATE INDEX IF NOT EXISTS membership_room ON waypost.membership (room, journal) WHERE since >= 0;

-- Rooms that a session was in.
CREATE TABLE IF NOT EXISTS waypost.left_membership (
    session bigint NOT NULL,
    room    bytea NOT NULL,
    since   bigint NOT NULL,
    until   bigint NOT NULL,
    journal int NOT NULL,
    sum     bytea NOT NULL,
    PRIMARY KEY (session, room, since)
);
CREATE INDEX IF NOT EXISTS left_membership_end ON waypost.left_membership (journal, until);

CREATE TABLE IF NOT EXISTS waypost.tombstone (
    journal    int NOT NULL,
    key        bytea NOT NULL,
    sid        bytea NOT NULL,
    expired_at float8 NOT NULL,
    PRIMARY KEY (journal, key)
);
CREATE INDEX IF NOT EXISTS tombstone_age ON waypost.tombstone (expired_at) WHERE expired_at > '-infinity';
CREATE INDEX IF NOT EXISTS tombstone_number ON waypost.tombstone (journal, expired_at) WHERE expired_at > '-infinity';

-- Sessions whose time was over, until their home, or another node if it is gone, was told.
CREATE TABLE IF NOT EXISTS waypost.expired_session (
    n       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    home    int,
    journal text NOT NULL,
    sid     bytea NOT NULL,
    data    bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS expired_session_home ON waypost.expired_session (home);

-- -- sums ---------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION waypost.sum_1(content bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT substr(sha256(content), 1, 4)
$$;

CREATE OR REPLACE FUNCTION waypost.membership_sum_1(session bigint, room bytea, since bigint, until bigint)
RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT substr(sha256(int8send(session) || int8send(since) || int8send(coalesce(until, -1)) || room), 1, 4)
$$;

CREATE OR REPLACE FUNCTION waypost.proof_sum_1(session bigint, proven bigint, last bigint) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT substr(sha256(int8send(session) || int8send(proven) || int8send(last)), 1, 4)
$$;

-- -- reading ------------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION waypost.names_1(names jsonb) RETURNS bytea[]
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF jsonb_typeof(names) = 'array' THEN
        RETURN ARRAY(SELECT DISTINCT decode(name, 'hex') FROM jsonb_array_elements_text(names) name);
    END IF;
    RETURN NULL;
END $$;

-- A session as the caller gets it; its data goes beside it.
CREATE OR REPLACE FUNCTION waypost.session_row_1(s waypost.session) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    noted waypost.proof;
    rooms jsonb;
    is_sound boolean;
    rooms_are_sound boolean;
BEGIN
    SELECT * INTO noted FROM waypost.proof p WHERE p.session = s.id ORDER BY p.position DESC LIMIT 1;
    SELECT coalesce(jsonb_agg(jsonb_build_array(encode(m.room, 'hex'), m.since, m.until)), '[]'),
           coalesce(bool_and(m.sum = waypost.membership_sum_1(s.id, m.room, m.since, m.until)), true)
        INTO rooms, rooms_are_sound
        FROM (SELECT room, since, NULL::bigint AS until, sum FROM waypost.membership WHERE session = s.id
              UNION ALL
              SELECT room, since, until, sum FROM waypost.left_membership WHERE session = s.id) m;
    is_sound := s.data_sum = waypost.sum_1(s.key || s.data)
        AND s.marks = waypost.sum_1(s.sid || int8send(s.start))
        AND (noted.session IS NULL OR noted.sum = waypost.proof_sum_1(s.id, noted.position, noted.last))
        AND rooms_are_sound;
    RETURN jsonb_build_object(
        'sid', encode(s.sid, 'hex'), 'start', s.start,
        'proven', greatest(noted.position, s.start),
        'last', CASE WHEN noted.position > s.start THEN noted.last ELSE s.start END,
        'expires_at', CASE WHEN s.expires_at IS NOT NULL THEN
            s.expires_at + (waypost.now_1() - waypost.lives_1()) END,
        'expired', s.expires_at IS NOT NULL AND s.expires_at < waypost.lives_1(),
        'damaged', NOT is_sound,
        'stuck_at', s.stuck_at, 'stuck_times', s.stuck_times, 'rooms', rooms);
END $$;

-- Sessions, or their tombstones, with the newest tick of the journal at the same moment, which comes with no key. Those
-- of `keys`, or up to `most` if it is NULL.
CREATE OR REPLACE FUNCTION waypost.find_sessions_1(p_journal int, keys bytea[], most int)
RETURNS TABLE (key bytea, result jsonb, data bytea, tick bigint)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off AS $$
#variable_conflict use_column
DECLARE
    wanted bytea;
    s waypost.session;
BEGIN
    key := NULL;
    tick := coalesce((SELECT l.tick FROM waypost.log l WHERE l.journal = p_journal ORDER BY l.tick DESC LIMIT 1), 0);
    RETURN NEXT;
    tick := NULL;
    IF keys IS NULL THEN
        keys := ARRAY(SELECT o.key FROM waypost.session o WHERE o.journal = p_journal LIMIT most);
    END IF;
    FOREACH wanted IN ARRAY keys LOOP
        SELECT * INTO s FROM waypost.session o WHERE o.journal = p_journal AND o.key = wanted;
        IF FOUND THEN
            key := wanted; result := waypost.session_row_1(s); data := s.data;
            RETURN NEXT;
        ELSE
            SELECT jsonb_build_object('sid', encode(t.sid, 'hex'), 'expires_at',
                    t.expired_at + (waypost.now_1() - waypost.lives_1()), 'is_gone', true)
                INTO result FROM waypost.tombstone t
                WHERE t.journal = p_journal AND t.key = wanted AND t.expired_at >= waypost.lives_1() - 86400;
            IF FOUND THEN
                key := wanted; data := '';
                RETURN NEXT;
            END IF;
        END IF;
    END LOOP;
END $$;

-- -- writing: one session -----------------------------------------------------------------------------------

-- Claims that wait for a session are answered by a row of the log.
CREATE OR REPLACE FUNCTION waypost.released_head_1(key bytea, handed bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
    SELECT convert_to(jsonb_build_object('released',
        jsonb_build_array(jsonb_build_array(encode(key, 'hex'), encode(coalesce(handed, ''), 'hex'))))::text, 'UTF8')
$$;

CREATE OR REPLACE FUNCTION waypost.forget_sessions_1(ids bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM waypost.membership WHERE session = ANY (ids);
    DELETE FROM waypost.left_membership WHERE session = ANY (ids);
    DELETE FROM waypost.proof WHERE session = ANY (ids);
    DELETE FROM waypost.session WHERE id = ANY (ids);
END $$;

CREATE OR REPLACE FUNCTION waypost.open_session_1(
    p_journal int, p_node int, p_key bytea, p_sid bytea, p_data bytea, p_position bigint
) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO waypost.session
        (journal, key, sid, start, data, data_sum, marks, home, last_home, home_attached)
        VALUES (p_journal, p_key, p_sid, p_position, p_data, waypost.sum_1(p_key || p_data),
                waypost.sum_1(p_sid || int8send(p_position)), p_node, p_node, true)
        ON CONFLICT (journal, key) DO NOTHING;
    IF NOT FOUND THEN
        RETURN '{"error": "WP003"}';
    END IF;
    DELETE FROM waypost.tombstone WHERE journal = p_journal AND key = p_key;
    RETURN '{}';
END $$;

CREATE OR REPLACE FUNCTION waypost.attach_session_1(s waypost.session, p_node int) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    found jsonb;
BEGIN
    -- A node that was slow may attach when the node that claimed the session later has long attached it.
    IF s.claimer IS DISTINCT FROM p_node AND (s.claimer IS NOT NULL OR s.home <> p_node) THEN
        RETURN '{"error": "WP002"}';
    END IF;
    found := waypost.session_row_1(s);
    IF (found ->> 'expired')::boolean OR (found ->> 'damaged')::boolean THEN
        UPDATE waypost.session SET home = NULL, home_attached = false, home_expires_at = NULL, handed = NULL,
            is_asked = false, is_orphan = false, claimer = NULL WHERE id = s.id;
        RETURN '{}';
    END IF;
    UPDATE waypost.session SET home = p_node, last_home = p_node, home_attached = true, home_expires_at = NULL,
        handed = NULL, is_asked = false, is_orphan = false, claimer = NULL, expires_at = NULL WHERE id = s.id;
    RETURN jsonb_set(found, '{expires_at}', 'null');
END $$;

CREATE OR REPLACE FUNCTION waypost.detach_session_1(s waypost.session, p_node int, p_ends_at float8) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    is_home boolean := coalesce(s.home = p_node, false);
    gives_up boolean := coalesce(s.claimer = p_node, false);
    still_attached boolean := s.home_attached AND NOT is_home;
BEGIN
    IF NOT is_home AND NOT gives_up AND (s.home IS NOT NULL OR s.claimer IS NOT NULL) THEN
        RETURN;
    END IF;
    UPDATE waypost.session SET
        home_attached = still_attached AND home IS NOT NULL,
        home_expires_at = CASE WHEN is_home THEN p_ends_at WHEN home IS NULL AND gives_up THEN NULL
                               ELSE home_expires_at END,
        claimer = CASE WHEN gives_up THEN NULL ELSE claimer END,
        handed = CASE WHEN gives_up AND home IS NULL THEN NULL ELSE handed END,
        is_asked = is_asked AND NOT (gives_up AND home IS NULL),
        is_orphan = false,
        expires_at = CASE
            WHEN gives_up AND still_attached AND home IS NOT NULL THEN expires_at
            WHEN NOT gives_up AND claimer IS NOT NULL THEN expires_at
            ELSE p_ends_at END
        WHERE id = s.id;
END $$;

-- Returns whether the claim waits, what was handed over otherwise, and whether the log needs a row: it asks the home,
-- tells one that was declared dead while it had the session, or tells an earlier claimer that its claim is void.
CREATE OR REPLACE FUNCTION waypost.claim_session_1(
    s waypost.session, p_node int, OUT result jsonb, OUT row_kind smallint, OUT row_head bytea
) LANGUAGE plpgsql AS $$
DECLARE
    waits boolean := coalesce(s.home <> p_node AND s.handed IS NULL, false);
    asked int := CASE WHEN waits AND NOT s.is_asked THEN s.home WHEN s.is_orphan THEN nullif(s.last_home, p_node) END;
BEGIN
    UPDATE waypost.session SET claimer = p_node,
        -- A home to which its client has come back lets go of the session only when it is asked again.
        is_asked = CASE WHEN waits THEN true ELSE is_asked AND home IS DISTINCT FROM p_node END,
        is_orphan = false,
        expires_at = CASE WHEN home_attached OR expires_at < waypost.lives_1() THEN expires_at END
        WHERE id = s.id;
    result := jsonb_build_object('waits', waits, 'handed', encode(coalesce(s.handed, ''), 'hex'));
    IF asked IS NOT NULL OR s.claimer <> p_node THEN
        row_kind := 5;
        row_head := convert_to(
            jsonb_build_object('key', encode(s.key, 'hex'), 'claimer', p_node, 'asked', asked)::text, 'UTF8');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION waypost.join_session_1(s waypost.session, rooms bytea[], p_position bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO waypost.membership (session, room, since, journal, sum)
        SELECT s.id, room, p_position, s.journal, waypost.membership_sum_1(s.id, room, p_position, NULL)
        FROM unnest(rooms) room
        ON CONFLICT (session, room) DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION waypost.leave_session_1(s waypost.session, rooms bytea[], p_position bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM waypost.membership WHERE session = s.id AND room = ANY (rooms) RETURNING room, since
    )
    -- Joined and left between two entries, it covers none.
    INSERT INTO waypost.left_membership (session, room, since, until, journal, sum)
        SELECT s.id, room, since, p_position, s.journal, waypost.membership_sum_1(s.id, room, since, p_position)
        FROM gone WHERE since < p_position;
END $$;

CREATE OR REPLACE FUNCTION waypost.prove_sessions_1(p_journal int, p_node int, p_notes jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_note jsonb;
    v_key bytea;
    v_at bigint;
    v_last bigint;
BEGIN
    -- One by one: a join would have a choice of plans.
    FOR v_note IN SELECT jsonb_array_elements(p_notes) LOOP
        v_key := decode(v_note ->> 0, 'hex');
        v_at := v_note ->> 1;
        v_last := v_note ->> 2;
        INSERT INTO waypost.proof (session, position, last, sum)
            SELECT s.id, v_at, v_last, waypost.proof_sum_1(s.id, v_at, v_last) FROM waypost.session s
            WHERE s.journal = p_journal AND s.key = v_key AND (s.home = p_node OR s.home IS NULL) AND v_at > s.start
            ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- -- writing: all sessions that match -----------------------------------------------------------------------

-- The ids of the sessions that are in any of some rooms (NULL: all), and in none of others, and not expired. A session
-- is in the room of its own sid.
CREATE OR REPLACE FUNCTION waypost.matching_sessions_1(p_journal int, rooms bytea[], except_ bytea[]) RETURNS bigint[]
LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    ids bigint[];
    without bigint[];
    now float8 := waypost.lives_1();
BEGIN
    IF rooms IS NULL THEN
        ids := ARRAY(SELECT s.id FROM waypost.session s
            WHERE s.journal = p_journal AND (s.expires_at IS NULL OR s.expires_at >= now));
    ELSE
        ids := ARRAY(
            SELECT s.id FROM (
                SELECT m.session AS id FROM unnest(rooms) r
                    JOIN waypost.membership m ON m.room = r AND m.journal = p_journal AND m.since >= 0
                UNION
                SELECT o.id FROM unnest(rooms) r JOIN waypost.session o
                    ON o.sid = r AND o.journal = p_journal AND o.start >= 0
            ) x JOIN waypost.session s ON s.id = x.id
            WHERE s.expires_at IS NULL OR s.expires_at >= now);
    END IF;
    IF cardinality(except_) > 0 AND cardinality(ids) > 0 THEN
        without := ARRAY(
            SELECT m.session FROM unnest(except_) r
                JOIN waypost.membership m ON m.room = r AND m.journal = p_journal AND m.since >= 0
            UNION ALL
            SELECT o.id FROM unnest(except_) r JOIN waypost.session o
                    ON o.sid = r AND o.journal = p_journal AND o.start >= 0);
        ids := ARRAY(SELECT unnest(ids) EXCEPT SELECT unnest(without));
    END IF;
    RETURN ids;
END $$;

CREATE OR REPLACE FUNCTION waypost.join_matching_1(
    p_journal int, rooms bytea[], except_ bytea[], moved bytea[], p_position bigint
) RETURNS void
LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    INSERT INTO waypost.membership (session, room, since, journal, sum)
        SELECT s.id, r, p_position, p_journal, waypost.membership_sum_1(s.id, r, p_position, NULL)
        FROM unnest(waypost.matching_sessions_1(p_journal, rooms, except_)) x
        JOIN waypost.session s ON s.id = x
        CROSS JOIN unnest(moved) r
        -- A session never leaves the room of its own sid, so it need not join it either.
        WHERE r <> s.sid
        ON CONFLICT (session, room) DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION waypost.leave_matching_1(
    p_journal int, rooms bytea[], except_ bytea[], moved bytea[], p_position bigint
) RETURNS void
LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    WITH gone AS (
        DELETE FROM waypost.membership m
            USING unnest(waypost.matching_sessions_1(p_journal, rooms, except_)) x
            JOIN waypost.session s ON s.id = x
            CROSS JOIN unnest(moved) r
            WHERE m.session = s.id AND m.room = r AND r <> s.sid
            RETURNING m.session, m.room, m.since
    )
    INSERT INTO waypost.left_membership (session, room, since, until, journal, sum)
        SELECT session, room, since, p_position, p_journal,
               waypost.membership_sum_1(session, room, since, p_position)
        FROM gone WHERE since < p_position;
END $$;

-- The head names the removed sessions by home. One without a home is told to the node that asks; if none does (0), as
-- the change comes from another program, to the node that takes what has expired next.
CREATE OR REPLACE FUNCTION waypost.end_matching_1(
    p_journal int, p_node int, rooms bytea[], except_ bytea[], p_arguments jsonb, OUT result jsonb, OUT row_head bytea
) LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    ids bigint[] := waypost.matching_sessions_1(p_journal, rooms, except_);
    homes jsonb;
    claimed jsonb;
    v_lost jsonb;
BEGIN
    SELECT coalesce(jsonb_object_agg(e.home, e.ended), '{}') INTO homes FROM (
        SELECT coalesce(s.home, p_node)::text AS home, jsonb_agg(jsonb_build_array(encode(s.sid, 'hex'),
            CASE WHEN s.data_sum = waypost.sum_1(s.key || s.data) THEN encode(s.data, 'hex') ELSE '' END)) AS ended
        FROM waypost.session s WHERE s.id = ANY (ids) GROUP BY 1) e;
    SELECT coalesce(jsonb_agg(encode(s.key, 'hex')) FILTER (WHERE s.claimer IS NOT NULL), '[]'),
           jsonb_agg(jsonb_build_array(encode(s.key, 'hex'), s.last_home)) FILTER (WHERE s.is_orphan)
        INTO claimed, v_lost FROM waypost.session s WHERE s.id = ANY (ids);
    IF p_node = 0 THEN
        INSERT INTO waypost.expired_session (home, journal, sid, data)
            SELECT NULL, j.name, s.sid, CASE WHEN s.data_sum = waypost.sum_1(s.key || s.data) THEN s.data ELSE '' END
            FROM waypost.session s JOIN waypost.journal j ON j.id = s.journal WHERE s.id = ANY (ids) AND s.home IS NULL;
    END IF;
    PERFORM waypost.forget_sessions_1(ids);
    result := jsonb_build_object('ended', coalesce(homes -> p_node::text, '[]'), 'claimed', claimed);
    row_head := convert_to(
        (p_arguments || jsonb_build_object('homes', homes - p_node::text, 'claimed', claimed, 'lost', v_lost))::text,
        'UTF8');
END $$;

-- -- writing: all kinds -------------------------------------------------------------------------------------

-- One write for sessions, under the lock of the journal. `position` is the journal's top at its place. A refusal is a
-- result, as other writes go on. With a `row_kind`, the log gets a row.
CREATE OR REPLACE FUNCTION waypost.session_operation_1(
    p_journal int, p_node int, p_incarnation bigint, p_kind smallint, p_key bytea, p_record bytea, p_arguments jsonb,
    p_position bigint, OUT result jsonb, OUT data bytea, OUT row_kind smallint, OUT row_head bytea
) LANGUAGE plpgsql AS $$
DECLARE
    s waypost.session;
    may_write boolean;
BEGIN
    result := '{}';
    CASE p_kind
    WHEN 18 THEN
        PERFORM waypost.join_matching_1(p_journal, waypost.names_1(p_arguments -> 'rooms'),
            waypost.names_1(p_arguments -> 'except'), waypost.names_1(p_arguments -> 'moved'), p_position);
        row_kind := 2; row_head := convert_to(p_arguments::text, 'UTF8');
        RETURN;
    WHEN 19 THEN
        PERFORM waypost.leave_matching_1(p_journal, waypost.names_1(p_arguments -> 'rooms'),
            waypost.names_1(p_arguments -> 'except'), waypost.names_1(p_arguments -> 'moved'), p_position);
        row_kind := 3; row_head := convert_to(p_arguments::text, 'UTF8');
        RETURN;
    WHEN 20 THEN
        SELECT e.result, e.row_head INTO result, row_head FROM waypost.end_matching_1(p_journal, p_node,
            waypost.names_1(p_arguments -> 'rooms'), waypost.names_1(p_arguments -> 'except'), p_arguments) e;
        row_kind := 4;
        RETURN;
    WHEN 23 THEN
        PERFORM waypost.prove_sessions_1(p_journal, p_node, p_arguments -> 'notes');
        RETURN;
    WHEN 10 THEN
        result := waypost.open_session_1(
            p_journal, p_node, p_key, decode(p_arguments ->> 'sid', 'hex'), p_record, p_position);
        RETURN;
    ELSE
        SELECT * INTO s FROM waypost.session o WHERE o.journal = p_journal AND o.key = p_key;
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END CASE;
    may_write := s.home IS NULL OR s.home = p_node;
    CASE p_kind
    WHEN 11 THEN
        result := waypost.attach_session_1(s, p_node);
        data := s.data;
    WHEN 12 THEN
        PERFORM waypost.detach_session_1(s, p_node, waypost.lives_1() + (p_arguments ->> 'after')::float8);
    WHEN 13 THEN
        IF may_write THEN
            PERFORM waypost.forget_sessions_1(ARRAY[s.id]);
            IF s.claimer IS NOT NULL THEN
                row_kind := 6; row_head := waypost.released_head_1(s.key, s.handed);
            END IF;
        END IF;
    WHEN 14 THEN
        IF may_write THEN
            UPDATE waypost.session SET data = p_record, data_sum = waypost.sum_1(p_key || p_record) WHERE id = s.id;
        END IF;
    WHEN 15 THEN
        IF may_write THEN
            UPDATE waypost.session SET stuck_at = (p_arguments ->> 'at')::bigint,
                stuck_times = (p_arguments ->> 'times')::int WHERE id = s.id;
        END IF;
    WHEN 16 THEN
        IF may_write THEN
            PERFORM waypost.join_session_1(s, waypost.names_1(p_arguments -> 'rooms'), p_position);
        END IF;
    WHEN 17 THEN
        IF may_write THEN
            PERFORM waypost.leave_session_1(s, waypost.names_1(p_arguments -> 'rooms'), p_position);
        END IF;
    WHEN 21 THEN
        SELECT c.result, c.row_kind, c.row_head INTO result, row_kind, row_head
            FROM waypost.claim_session_1(s, p_node) c;
    WHEN 22 THEN
        IF s.home = p_node AND s.is_asked THEN
            UPDATE waypost.session SET handed = p_record WHERE id = s.id;
            IF s.claimer IS NOT NULL THEN
                row_kind := 6; row_head := waypost.released_head_1(s.key, p_record);
            END IF;
        END IF;
    END CASE;
END $$;

-- -- ends ---------------------------------------------------------------------------------------------------

-- Detach the sessions of a node that is gone, and give up its claims. Part of the declaration of its death.
CREATE OR REPLACE FUNCTION waypost.sessions_of_dead_1(p_node int, p_ttl_s float8) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_journal int;
    v_ends_at float8;
    v_released jsonb;
BEGIN
    FOR v_journal IN
        SELECT j FROM (SELECT s.journal AS j FROM waypost.session s WHERE s.home = p_node
                       UNION SELECT s.journal FROM waypost.session s WHERE s.claimer = p_node) x ORDER BY j
    LOOP
        PERFORM 1 FROM waypost.journal j WHERE j.id = v_journal FOR UPDATE;
        v_ends_at := waypost.lives_1() + p_ttl_s;
        -- Another node's claim keeps the session; it waits no longer.
        WITH taken AS (
            UPDATE waypost.session s SET home = NULL, home_attached = false
                WHERE s.home = p_node AND s.claimer <> p_node AND s.journal = v_journal RETURNING s.key, s.handed
        )
        SELECT jsonb_agg(jsonb_build_array(encode(key, 'hex'), encode(coalesce(handed, ''), 'hex')))
            INTO v_released FROM taken;
        UPDATE waypost.session s SET
            expires_at = CASE WHEN s.home_attached OR s.claimer = p_node THEN coalesce(s.home_expires_at, v_ends_at)
                              ELSE s.expires_at END,
            is_orphan = s.home_attached AND s.claimer IS NULL,
            home = NULL, home_attached = false, home_expires_at = NULL, handed = NULL, is_asked = false, claimer = NULL
            WHERE s.home = p_node AND s.journal = v_journal;
        UPDATE waypost.session s SET claimer = NULL,
            expires_at = CASE WHEN s.home_attached OR s.expires_at IS NOT NULL THEN s.expires_at
                              ELSE coalesce(s.home_expires_at, v_ends_at) END,
            home_expires_at = CASE WHEN s.home IS NOT NULL THEN s.home_expires_at END,
            handed = CASE WHEN s.home IS NOT NULL THEN s.handed END,
            is_asked = s.is_asked AND s.home IS NOT NULL
            WHERE s.claimer = p_node AND s.journal = v_journal;
        IF v_released IS NOT NULL THEN
            PERFORM waypost.log_row_1(v_journal, 6::smallint,
                convert_to(jsonb_build_object('released', v_released)::text, 'UTF8'));
        END IF;
    END LOOP;
    UPDATE waypost.expired_session SET home = NULL WHERE home = p_node;
END $$;

-- A node that was declared dead is alive, with a new incarnation: it is the home again of the sessions that it had
-- attached and that nobody has claimed since. The log tells it of the others.
CREATE OR REPLACE FUNCTION waypost.sessions_renewed_1(p_node int) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_journal int;
BEGIN
    FOR v_journal IN
        SELECT DISTINCT s.journal FROM waypost.session s WHERE s.last_home = p_node AND s.is_orphan ORDER BY 1
    LOOP
        PERFORM 1 FROM waypost.journal j WHERE j.id = v_journal FOR UPDATE;
        UPDATE waypost.session s SET home = p_node, home_attached = true, is_orphan = false, expires_at = NULL
            WHERE s.last_home = p_node AND s.is_orphan AND s.journal = v_journal
            AND s.expires_at >= waypost.lives_1();
    END LOOP;
END $$;

-- Remove some of the sessions whose time is over, of one journal; returns the journal, NULL when none is left.
CREATE OR REPLACE FUNCTION waypost.expire_sessions_1(most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_journal int;
    name text;
    now float8 := waypost.lives_1();
    ids bigint[];
    v_released jsonb;
    v_lost jsonb;
BEGIN
    PERFORM waypost.begin_write_1();
    SELECT s.journal INTO v_journal FROM waypost.session s
        WHERE s.expires_at IS NOT NULL AND s.expires_at < now ORDER BY s.expires_at LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT j.name INTO name FROM waypost.journal j WHERE j.id = v_journal FOR UPDATE;
    ids := ARRAY(SELECT s.id FROM waypost.session s WHERE s.expires_at IS NOT NULL AND s.expires_at < now
        AND s.journal = v_journal ORDER BY s.expires_at LIMIT most);
    INSERT INTO waypost.tombstone (journal, key, sid, expired_at)
        SELECT s.journal, s.key, s.sid, s.expires_at FROM waypost.session s WHERE s.id = ANY (ids)
        ON CONFLICT (journal, key) DO UPDATE SET sid = excluded.sid, expired_at = excluded.expired_at;
    INSERT INTO waypost.expired_session (home, journal, sid, data)
        SELECT s.home, name, s.sid, CASE WHEN s.data_sum = waypost.sum_1(s.key || s.data) THEN s.data ELSE '' END
        FROM waypost.session s WHERE s.id = ANY (ids);
    SELECT jsonb_agg(jsonb_build_array(encode(s.key, 'hex'), encode(coalesce(s.handed, ''), 'hex')))
            FILTER (WHERE s.claimer IS NOT NULL),
           jsonb_agg(jsonb_build_array(encode(s.key, 'hex'), s.last_home)) FILTER (WHERE s.is_orphan)
        INTO v_released, v_lost FROM waypost.session s WHERE s.id = ANY (ids);
    PERFORM waypost.forget_sessions_1(ids);
    IF v_released IS NOT NULL OR v_lost IS NOT NULL THEN
        PERFORM waypost.log_row_1(v_journal, 6::smallint,
            convert_to(jsonb_build_object('released', v_released, 'lost', v_lost)::text, 'UTF8'));
    END IF;
    RETURN v_journal;
END $$;

-- The sessions that expired, of a node and of none. Each is returned once.
CREATE OR REPLACE FUNCTION waypost.take_expired_1(p_home int) RETURNS TABLE (journal text, sid bytea, data bytea)
LANGUAGE plpgsql SET enable_seqscan = off
    SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
BEGIN
    PERFORM waypost.begin_write_1();
    RETURN QUERY DELETE FROM waypost.expired_session e WHERE e.n IN (
        SELECT o.n FROM waypost.expired_session o WHERE o.home = p_home
        UNION ALL SELECT o.n FROM waypost.expired_session o WHERE o.home IS NULL)
        RETURNING e.journal, e.sid, e.data;
END $$;

-- Remove some tombstones that are too old; returns how many.
CREATE OR REPLACE FUNCTION waypost.forget_tombstones_1(most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM waypost.tombstone WHERE (journal, key) IN (
        SELECT t.journal, t.key FROM waypost.tombstone t
        WHERE t.expired_at > '-infinity' AND t.expired_at < waypost.lives_1() - 86400 LIMIT most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

-- Remove some of a journal's oldest tombstones beyond a number; returns how many.
CREATE OR REPLACE FUNCTION waypost.limit_tombstones_1(p_journal int, most_kept int, most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM waypost.tombstone WHERE (journal, key) IN (
        SELECT t.journal, t.key FROM waypost.tombstone t WHERE t.journal = p_journal AND t.expired_at > '-infinity'
        ORDER BY t.expired_at DESC LIMIT most OFFSET most_kept);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

CREATE OR REPLACE FUNCTION waypost.trim_memberships_1(p_journal int, oldest bigint, most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM waypost.left_membership m WHERE (m.session, m.room, m.since) IN (
        SELECT o.session, o.room, o.since FROM waypost.left_membership o
        WHERE o.journal = p_journal AND o.until < oldest - 1 LIMIT most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

CREATE OR REPLACE FUNCTION waypost.trim_proofs_1(most int) RETURNS int
LANGUAGE plpgsql SET enable_seqscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    gone int;
BEGIN
    DELETE FROM waypost.proof p WHERE (p.session, p.position) IN (
        SELECT o.session, o.position FROM waypost.proof o
        WHERE EXISTS (SELECT 1 FROM waypost.proof n WHERE n.session = o.session AND n.position > o.position)
        LIMIT most);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END $$;

-- -- the whole journal --------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION waypost.has_sessions_1(p_journal int) RETURNS boolean
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM waypost.session WHERE journal = p_journal);
END $$;

-- A journal without sessions is removed.
CREATE OR REPLACE FUNCTION waypost.sessions_dropped_1(p_journal int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM waypost.tombstone WHERE journal = p_journal;
END $$;

-- All sessions of a journal end, as its history was lost: what they had after it can't be known. Their homes end the
-- lives of those that are attached; the clients are told when they come back.
CREATE OR REPLACE FUNCTION waypost.sessions_ended_1(p_journal int, p_reason text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_released jsonb;
    v_lost jsonb;
BEGIN
    SELECT array_agg(s.id),
           jsonb_agg(jsonb_build_array(encode(s.key, 'hex'), '')) FILTER (WHERE s.claimer IS NOT NULL),
           jsonb_agg(jsonb_build_array(encode(s.key, 'hex'), s.last_home))
               FILTER (WHERE s.home_attached OR s.is_orphan)
        INTO v_ids, v_released, v_lost FROM waypost.session s WHERE s.journal = p_journal;
    PERFORM waypost.forget_sessions_1(coalesce(v_ids, '{}'));
    DELETE FROM waypost.tombstone WHERE journal = p_journal;
    IF v_released IS NOT NULL OR v_lost IS NOT NULL THEN
        PERFORM waypost.log_row_1(p_journal, 6::smallint, convert_to(
            jsonb_build_object('released', v_released, 'lost', v_lost)::text, 'UTF8'));
    END IF;
END $$;
