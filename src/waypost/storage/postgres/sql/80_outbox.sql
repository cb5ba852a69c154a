-- The outbox: what applications emit and publish in transactions of their own. It is moved soon after they commit.
--
-- Two tables are filled in turn. Under a snapshot that somebody holds, rows that were moved stay where they are, and
-- each look at the table would read them again; so a table that was filled and is empty again is truncated. Which one
-- is filled now, the last value of a sequence says: reading it costs the same however often it has changed.

CREATE SEQUENCE IF NOT EXISTS waypost.outbox_id;
CREATE SEQUENCE IF NOT EXISTS waypost.outbox_turn;

-- Kinds: 0 an event for a journal, 1 a message for a queue, 18, 19 and 20 as in `session_operation_1`.
CREATE TABLE IF NOT EXISTS waypost.outbox_0 (
    id        bigint NOT NULL PRIMARY KEY,
    kind      smallint NOT NULL,
    target    text NOT NULL,       -- the namespace, or the queue
    record    bytea NOT NULL,
    write_id  text,
    window_s  float8,              -- in which a second row of that id is a repeat; NULL: the queue's own
    key       text,
    ttl_s     float8,
    delay_s   float8,
    headers   text,
    arguments jsonb,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS waypost.outbox_1 (LIKE waypost.outbox_0 INCLUDING ALL);
ALTER TABLE waypost.outbox_0 ALTER COLUMN record SET STORAGE EXTERNAL;
ALTER TABLE waypost.outbox_1 ALTER COLUMN record SET STORAGE EXTERNAL;

-- Rows that can't be moved, and why. For people; nothing reads it.
CREATE TABLE IF NOT EXISTS waypost.outbox_bad (LIKE waypost.outbox_0, reason text NOT NULL, moved_at float8 NOT NULL);

-- The ids of events that were moved, until their time is over.
CREATE TABLE IF NOT EXISTS waypost.emitted (
    journal int NOT NULL,
    id      text NOT NULL,
    until   float8 NOT NULL,
    PRIMARY KEY (journal, id)
);
CREATE INDEX IF NOT EXISTS emitted_end ON waypost.emitted (until);

-- One row, never updated: the lock of who moves.
CREATE TABLE IF NOT EXISTS waypost.outbox_mover (id int PRIMARY KEY CHECK (id = 1));
INSERT INTO waypost.outbox_mover VALUES (1) ON CONFLICT DO NOTHING;

-- ------------------------------------------------------------------------------------------------- what is accepted

CREATE OR REPLACE FUNCTION waypost.refuse_1(p_what text, p_expected text, p_came text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: expected %, came %', p_what, p_expected, coalesce(left(p_came, 200), 'NULL')
        USING ERRCODE = 'invalid_parameter_value';
END $$;

-- The name of a room, a queue, a message or a key. What stands in an index must fit into its page.
CREATE OR REPLACE FUNCTION waypost.check_name_1(p_what text, p_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF coalesce(p_name, '') = '' OR octet_length(p_name) > 1024 THEN
        PERFORM waypost.refuse_1(p_what, 'text of 1 to 1024 bytes', p_name);
    END IF;
END $$;

-- A text as storage/postgres/queues/texts.py keeps it: the character 1 stands for more than itself there.
CREATE OR REPLACE FUNCTION waypost.kept_text_1(p_text text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN replace(p_text, chr(1), chr(1) || chr(3));
END $$;

CREATE OR REPLACE FUNCTION waypost.check_rooms_1(p_what text, p_rooms text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_room text;
BEGIN
    IF cardinality(p_rooms) > 10000 THEN
        PERFORM waypost.refuse_1(p_what, 'at most 10000 names', cardinality(p_rooms)::text);
    END IF;
    FOREACH v_room IN ARRAY coalesce(p_rooms, '{}') LOOP
        IF v_room IS NULL OR octet_length(v_room) > 1024 THEN
            PERFORM waypost.refuse_1(p_what, 'names as text of at most 1024 bytes', v_room);
        END IF;
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION waypost.check_namespace_1(p_namespace text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_namespace IS NULL OR left(p_namespace, 1) <> '/' OR strpos(p_namespace, ',') > 0
        OR octet_length(p_namespace) > 1024
    THEN
        PERFORM waypost.refuse_1('namespace', 'text that starts with / and has no comma', p_namespace);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION waypost.check_seconds_1(p_what text, p_seconds float8, p_is_zero_fine boolean) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_seconds < 0 OR p_seconds = 0 AND NOT p_is_zero_fine OR p_seconds > 1e10 THEN
        PERFORM waypost.refuse_1(p_what, 'a time ' || CASE WHEN p_is_zero_fine THEN 'from' ELSE 'above' END || ' 0',
            p_seconds || ' s');
    END IF;
END $$;

-- The event's name and its arguments as JSON, an array. What PostgreSQL takes for JSON and no client can read is
-- refused: numbers beyond a float, and more than 254 levels.
CREATE OR REPLACE FUNCTION waypost.check_payload_1(p_payload text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_brackets text;
    v_depth int := 0;
BEGIN
    IF octet_length(p_payload) > 67108864 THEN
        PERFORM waypost.refuse_1('args', 'at most 64 MiB', octet_length(p_payload) || ' bytes');
    END IF;
    IF p_payload ~ '[0-9]{255}[0-9]{45}|[eE]\+?[0-9]{3}' THEN
        BEGIN
            PERFORM (one #>> '{}')::float8 FROM jsonb_path_query(p_payload::jsonb, 'strict $.** ? (@.type() == "number")')
                AS found (one);
        EXCEPTION WHEN numeric_value_out_of_range THEN
            PERFORM waypost.refuse_1('args', 'numbers that a float can hold', 'a larger one');
        END;
    END IF;
    IF length(p_payload) - length(translate(p_payload, '[{', '')) > 254 THEN
        v_brackets := regexp_replace(regexp_replace(p_payload, '"(\\.|[^"\\])*"', '', 'g'), '[^][{}]', '', 'g');
        WHILE v_brackets <> '' LOOP
            v_depth := v_depth + 1;
            IF v_depth > 254 THEN
                PERFORM waypost.refuse_1('args', 'at most 254 levels', 'more');
            END IF;
            v_brackets := replace(replace(v_brackets, '[]', ''), '{}', '');
        END LOOP;
    END IF;
END $$;

-- An event as the store keeps it, see protocol/records.py.
CREATE OR REPLACE FUNCTION waypost.record_1(p_payload text, p_attachments bytea[]) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
    v_payload bytea := convert_to(p_payload, 'UTF8');
    v_sizes bytea := '';
    v_all bytea := '';
    v_one bytea;
BEGIN
    PERFORM waypost.check_payload_1(p_payload);
    IF coalesce(cardinality(p_attachments), 0) = 0 THEN
        RETURN '\x01'::bytea || v_payload;
    END IF;
    FOREACH v_one IN ARRAY p_attachments LOOP
        v_sizes := v_sizes || int4send(octet_length(v_one));
        v_all := v_all || v_one;
    END LOOP;
    IF octet_length(v_all) > 268435456 OR v_all IS NULL THEN
        PERFORM waypost.refuse_1('args', 'at most 256 MiB of bytes', octet_length(v_all)::text);
    END IF;
    RETURN '\x02'::bytea || int4send(cardinality(p_attachments)) || int4send(octet_length(v_payload)) || v_sizes
        || v_payload || v_all;
END $$;

-- The event's name and its arguments as one array, as text.
CREATE OR REPLACE FUNCTION waypost.payload_1(p_event text, p_args jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF p_event IS NULL OR p_event IN (
        'connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener')
    THEN
        PERFORM waypost.refuse_1('event', 'a name that is not reserved', p_event);
    END IF;
    IF jsonb_typeof(coalesce(p_args, 'null')) <> 'array' THEN
        PERFORM waypost.refuse_1('args', 'a JSON array of the event''s arguments', p_args::text);
    END IF;
    RETURN '[' || to_json(p_event)::text || CASE WHEN p_args = '[]' THEN ']' ELSE ',' || substr(p_args::text, 2) END;
END $$;

-- ------------------------------------------------------------------------------------------------ what callers call

CREATE OR REPLACE FUNCTION waypost.outbox_add_1(
    p_kind smallint, p_target text, p_record bytea, p_write_id text, p_window_s float8, p_key text, p_ttl_s float8,
    p_delay_s float8, p_headers text, p_arguments jsonb, p_wake boolean
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF (SELECT last_value % 2 FROM waypost.outbox_turn) = 0 THEN
        INSERT INTO waypost.outbox_0 VALUES (nextval('waypost.outbox_id'), p_kind, p_target, p_record, p_write_id,
            p_window_s, p_key, p_ttl_s, p_delay_s, p_headers, p_arguments);
    ELSE
        INSERT INTO waypost.outbox_1 VALUES (nextval('waypost.outbox_id'), p_kind, p_target, p_record, p_write_id,
            p_window_s, p_key, p_ttl_s, p_delay_s, p_headers, p_arguments);
    END IF;
    IF p_wake THEN
        PERFORM pg_notify('waypost', 'o');
    END IF;
END $$;

-- An event whose name and arguments are JSON already, with its binary values.
CREATE OR REPLACE FUNCTION waypost.emit_1(
    p_namespace text, p_rooms text[], p_except text[], p_payload text, p_attachments bytea[], p_id text,
    p_window_s float8, p_wake boolean
) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_head bytea := '';
    v_record bytea;
BEGIN
    PERFORM waypost.check_namespace_1(p_namespace), waypost.check_rooms_1('rooms', p_rooms),
        waypost.check_rooms_1('except_', p_except), waypost.check_seconds_1('window', p_window_s, true);
    IF p_id IS NOT NULL THEN
        PERFORM waypost.check_name_1('id', p_id);
    END IF;
    v_record := waypost.record_1(p_payload, p_attachments);
    IF p_rooms IS NOT NULL OR cardinality(p_except) > 0 THEN
        v_head := convert_to(jsonb_build_array(p_rooms, coalesce(p_except, '{}'))::text, 'UTF8');
    END IF;
    PERFORM waypost.outbox_add_1(0::smallint, p_namespace, int4send(octet_length(v_head)) || v_head || v_record, p_id,
        CASE WHEN p_id IS NOT NULL THEN p_window_s END, NULL, NULL, NULL, NULL, NULL, p_wake);
    RETURN coalesce(p_id, gen_random_uuid()::text);
END $$;

-- A message whose event is JSON already. ``p_limits`` holds for a queue without limits of its own; see `QueueLimits`.
CREATE OR REPLACE FUNCTION waypost.publish_1(
    p_queue text, p_payload text, p_attachments bytea[], p_id text, p_window_s float8, p_key text, p_delay_s float8,
    p_ttl_s float8, p_headers text, p_limits jsonb, p_wake boolean
) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id text := coalesce(p_id, replace(gen_random_uuid()::text, '-', ''));
    v_record bytea := waypost.record_1(p_payload, p_attachments);
BEGIN
    PERFORM waypost.check_name_1('queue', p_queue), waypost.check_name_1('id', v_id),
        waypost.check_seconds_1('delay', p_delay_s, true), waypost.check_seconds_1('ttl', p_ttl_s, false),
        waypost.check_seconds_1('window', p_window_s, true);
    IF p_key IS NOT NULL THEN
        PERFORM waypost.check_name_1('key', p_key);
    END IF;
    PERFORM waypost.check_headers_1(p_headers);
    PERFORM waypost.check_queue_room_1(p_queue, octet_length(v_record) + coalesce(octet_length(p_headers), 0), p_limits);
    PERFORM waypost.outbox_add_1(1::smallint, p_queue, v_record, v_id,
        CASE WHEN p_id IS NULL THEN 0 ELSE p_window_s END, p_key, p_ttl_s, coalesce(p_delay_s, 0), p_headers, NULL,
        p_wake);
    RETURN v_id;
END $$;

CREATE OR REPLACE FUNCTION waypost.check_headers_1(p_headers text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_headers IS NULL THEN
        RETURN;
    END IF;
    IF octet_length(p_headers) > 16384 OR jsonb_typeof(p_headers::jsonb) <> 'object'
        OR EXISTS (SELECT FROM jsonb_each(p_headers::jsonb) WHERE jsonb_typeof(value) <> 'string')
    THEN
        PERFORM waypost.refuse_1('headers', 'a JSON object of texts, of at most 16 KiB', p_headers);
    END IF;
END $$;

-- Refuses a message that does not fit, as it can't be refused any more once it is committed.
CREATE OR REPLACE FUNCTION waypost.check_queue_room_1(p_queue text, p_size int, p_limits jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_queue int;
    v_state waypost.queue_state;
    v_limits record;
BEGIN
    SELECT id INTO v_queue FROM waypost.queue WHERE name = p_queue;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO v_limits FROM waypost.queue_limits_1(v_queue, p_limits);
    IF v_limits.overflow <> 'refuse' OR v_limits.max_messages IS NULL THEN
        RETURN;
    END IF;
    v_state := waypost.queue_load_1(v_queue);
    IF v_state.messages + v_state.delayed + 1 > v_limits.max_messages OR v_state.bytes + p_size > v_limits.max_bytes THEN
        RAISE EXCEPTION 'queue % is full: it keeps % messages of at most %, and % bytes of at most %', p_queue,
            v_state.messages + v_state.delayed, v_limits.max_messages, v_state.bytes, v_limits.max_bytes
            USING ERRCODE = 'WP004', DETAIL = jsonb_build_array(p_queue, v_state.messages + v_state.delayed,
                v_state.bytes, v_limits.max_messages, v_limits.max_bytes)::text;
    END IF;
END $$;

-- A change of rooms or sessions; its arguments are those of `session_operation_1`.
CREATE OR REPLACE FUNCTION waypost.change_1(p_namespace text, p_kind smallint, p_arguments jsonb, p_wake boolean)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.check_namespace_1(p_namespace);
    PERFORM waypost.outbox_add_1(p_kind, p_namespace, '', NULL, NULL, NULL, NULL, NULL, NULL, p_arguments, p_wake);
END $$;

-- Emits an event in the caller's transaction: to the members of `rooms`, or to all with NULL. Returns its id; a second
-- event of an id that the caller gives is dropped for ten minutes.
CREATE OR REPLACE FUNCTION waypost.emit(
    namespace text, rooms text[], event text, args jsonb DEFAULT '[]', except_ text[] DEFAULT '{}',
    id text DEFAULT NULL, wake boolean DEFAULT false
) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id text := waypost.emit_1(namespace, rooms, except_, waypost.payload_1(event, args), NULL,
        waypost.kept_text_1(id), 600, wake);
BEGIN
    RETURN coalesce(id, v_id);
END $$;

-- Puts a message into a queue in the caller's transaction. Returns its id; a second message of an id is dropped, as the
-- queue's options say. The delay, and from then the time to live, count from when it is moved.
CREATE OR REPLACE FUNCTION waypost.publish(
    queue text, event text, args jsonb DEFAULT '[]', id text DEFAULT NULL, key text DEFAULT NULL,
    delay interval DEFAULT NULL, ttl interval DEFAULT NULL, headers jsonb DEFAULT NULL, wake boolean DEFAULT false
) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_id text := waypost.publish_1(queue, waypost.payload_1(event, args), NULL, waypost.kept_text_1(id), NULL,
        waypost.kept_text_1(key), extract(epoch FROM delay)::float8, extract(epoch FROM ttl)::float8, headers::text,
        NULL, wake);
BEGIN
    RETURN coalesce(id, v_id);
END $$;

COMMENT ON FUNCTION waypost.emit(text, text[], text, jsonb, text[], text, boolean) IS
    'Emits an event to clients when the transaction commits: rooms NULL for all, args a JSON array.';
COMMENT ON FUNCTION waypost.publish(text, text, jsonb, text, text, interval, interval, jsonb, boolean) IS
    'Puts a message into a queue when the transaction commits; args a JSON array.';
