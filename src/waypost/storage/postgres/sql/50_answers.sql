-- The answers to messages that clients may send again. Texts from outside are kept as bytes.

CREATE TABLE IF NOT EXISTS waypost.answer (
    client   bytea NOT NULL,
    sequence bigint NOT NULL,
    message  bytea NOT NULL,
    at       float8 NOT NULL,
    account  bytea NOT NULL,
    given_up boolean NOT NULL,   -- then the record is empty
    record   bytea NOT NULL,
    sum      bytea NOT NULL,     -- of client, message and record
    PRIMARY KEY (client, sequence, message)
);
CREATE INDEX IF NOT EXISTS answer_age ON waypost.answer (at);
CREATE INDEX IF NOT EXISTS answer_account ON waypost.answer (account, given_up, at, sequence);

-- How many bytes the answers of an account take, and all of them. Each change is a row; the one with the highest number
-- counts.
CREATE TABLE IF NOT EXISTS waypost.answer_use (
    account bytea NOT NULL,
    n       bigint GENERATED ALWAYS AS IDENTITY,
    bytes   bigint NOT NULL,
    PRIMARY KEY (account, n)
);
CREATE TABLE IF NOT EXISTS waypost.answer_total (
    n     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bytes bigint NOT NULL
);

-- One row, never changed: the lock of all writes for answers.
CREATE TABLE IF NOT EXISTS waypost.answer_lock (id int PRIMARY KEY CHECK (id = 1));
INSERT INTO waypost.answer_lock VALUES (1) ON CONFLICT DO NOTHING;

-- What an answer counts for, beside its record.
CREATE OR REPLACE FUNCTION waypost.answer_bytes_1(p_record bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 256 + length(p_record)::bigint
$$;

CREATE OR REPLACE FUNCTION waypost.answer_use_1(p_account bytea) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce(
        (SELECT bytes FROM waypost.answer_use WHERE account = p_account ORDER BY n DESC LIMIT 1), 0);
END $$;

CREATE OR REPLACE FUNCTION waypost.answer_total_1() RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((SELECT bytes FROM waypost.answer_total ORDER BY n DESC LIMIT 1), 0);
END $$;

-- Note that the answers of accounts take more bytes, or fewer.
CREATE OR REPLACE FUNCTION waypost.count_answers_1(p_accounts bytea[], p_changes bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO waypost.answer_use (account, bytes)
        SELECT c.account, waypost.answer_use_1(c.account) + c.change
        FROM (SELECT account, sum(change)::bigint AS change
              FROM unnest(p_accounts, p_changes) AS u (account, change) GROUP BY account) c
        WHERE c.change <> 0;
    INSERT INTO waypost.answer_total (bytes)
        SELECT waypost.answer_total_1() + coalesce(sum(change), 0)::bigint FROM unnest(p_changes) change;
END $$;

-- Give up some of an account's oldest answers, then forget the oldest that were given up; returns how many bytes that
-- has freed.
CREATE OR REPLACE FUNCTION waypost.free_answers_1(p_account bytea, p_excess bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_answer record;
    v_freed bigint := 0;
BEGIN
    FOR v_answer IN
        SELECT client, sequence, message, given_up, length(record) AS size FROM waypost.answer
            WHERE account = p_account ORDER BY account, given_up, at, sequence LIMIT 64
    LOOP
        EXIT WHEN v_freed >= p_excess;
        IF v_answer.given_up THEN
            DELETE FROM waypost.answer WHERE client = v_answer.client AND sequence = v_answer.sequence
                AND message = v_answer.message;
            v_freed := v_freed + 256;
        ELSE
            UPDATE waypost.answer SET given_up = true, record = '' WHERE client = v_answer.client
                AND sequence = v_answer.sequence AND message = v_answer.message;
            v_freed := v_freed + v_answer.size;
        END IF;
    END LOOP;
    IF v_freed > 0 THEN
        PERFORM waypost.count_answers_1(ARRAY[p_account], ARRAY[-v_freed]);
    END IF;
    RETURN v_freed;
END $$;

CREATE OR REPLACE FUNCTION waypost.limit_answers_1(p_accounts bytea[], p_account_bytes bigint, p_total_bytes bigint)
RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_account bytea;
    v_excess bigint;
BEGIN
    FOREACH v_account IN ARRAY p_accounts LOOP
        LOOP
            v_excess := waypost.answer_use_1(v_account) - p_account_bytes;
            EXIT WHEN v_account = '' OR v_excess <= 0;
            EXIT WHEN waypost.free_answers_1(v_account, v_excess) = 0;
        END LOOP;
    END LOOP;
    LOOP
        v_excess := waypost.answer_total_1() - p_total_bytes;
        EXIT WHEN v_excess <= 0;
        SELECT u.account INTO v_account FROM (
            SELECT DISTINCT ON (account) account, bytes FROM waypost.answer_use ORDER BY account, n DESC) u
            ORDER BY u.bytes DESC LIMIT 1;
        EXIT WHEN NOT FOUND OR waypost.free_answers_1(v_account, v_excess) = 0;
    END LOOP;
END $$;

-- Store answers, each in the place of an earlier one to the same message, and remove those that their clients have.
CREATE OR REPLACE FUNCTION waypost.keep_answers_1(
    p_node int, p_incarnation bigint, p_batch bigint,
    p_clients bytea[], p_sequences bigint[], p_messages bytea[], p_accounts bytea[], p_records bytea[], p_sums bytea[],
    p_settled bigint[], p_most int, p_account_bytes bigint, p_total_bytes bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = on
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_accounts bytea[];
    v_changes bigint[];
    v_gone_accounts bytea[];
    v_gone_bytes bigint[];
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM 1 FROM waypost.answer_lock WHERE id = 1 FOR UPDATE;
    PERFORM waypost.node_check_1(p_node, p_incarnation);
    INSERT INTO waypost.write_mark VALUES (p_node, p_incarnation, p_batch, '{}', waypost.now_1());

    WITH gone AS (
        DELETE FROM waypost.answer a USING unnest(p_clients, p_sequences, p_messages) AS u (client, sequence, message)
            WHERE a.client = u.client AND a.sequence = u.sequence AND a.message = u.message
            RETURNING a.account, waypost.answer_bytes_1(a.record) AS bytes
    )
    SELECT array_agg(account), array_agg(-bytes) INTO v_accounts, v_changes FROM gone;
    WITH kept AS (
        INSERT INTO waypost.answer (client, sequence, message, at, account, given_up, record, sum)
            SELECT DISTINCT ON (u.client, u.sequence, u.message)
                u.client, u.sequence, u.message, waypost.now_1(), u.account, false, u.record, u.sum
            FROM unnest(p_clients, p_sequences, p_messages, p_accounts, p_records, p_sums) WITH ORDINALITY
                AS u (client, sequence, message, account, record, sum, n)
            ORDER BY u.client, u.sequence, u.message, u.n DESC
            RETURNING account, waypost.answer_bytes_1(record) AS bytes
    )
    SELECT v_accounts || array_agg(account), v_changes || array_agg(bytes) INTO v_accounts, v_changes FROM kept;
    WITH gone AS (
        DELETE FROM waypost.answer a
            USING (SELECT client, max(settled) AS settled FROM unnest(p_clients, p_settled) AS u (client, settled)
                   GROUP BY client) s
            WHERE a.client = s.client AND a.sequence <= s.settled
            RETURNING a.account, waypost.answer_bytes_1(a.record) AS bytes
    )
    SELECT array_agg(account), array_agg(-bytes) INTO v_gone_accounts, v_gone_bytes FROM gone;
    v_accounts := v_accounts || v_gone_accounts;
    v_changes := v_changes || v_gone_bytes;
    WITH gone AS (
        DELETE FROM waypost.answer a
            USING (SELECT DISTINCT client FROM unnest(p_clients) client) c
            CROSS JOIN LATERAL (
                SELECT o.sequence, o.message FROM waypost.answer o WHERE o.client = c.client
                ORDER BY o.client DESC, o.sequence DESC, o.message DESC LIMIT 1 OFFSET p_most) last
            WHERE a.client = c.client AND (a.sequence, a.message) <= (last.sequence, last.message)
            RETURNING a.account, waypost.answer_bytes_1(a.record) AS bytes
    )
    SELECT array_agg(account), array_agg(-bytes) INTO v_gone_accounts, v_gone_bytes FROM gone;
    v_accounts := v_accounts || v_gone_accounts;
    v_changes := v_changes || v_gone_bytes;

    PERFORM waypost.count_answers_1(v_accounts, v_changes);
    PERFORM waypost.limit_answers_1(
        ARRAY(SELECT DISTINCT account FROM unnest(p_accounts) account), p_account_bytes, p_total_bytes);
END $$;

-- Whether a call of `keep_answers_1` was done, whose answer was lost. Its incarnation is over.
CREATE OR REPLACE FUNCTION waypost.settle_answers_1(
    p_node int, p_incarnation bigint, p_batch bigint, p_by_incarnation bigint, p_by_batch bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM 1 FROM waypost.answer_lock WHERE id = 1 FOR UPDATE;
    PERFORM waypost.node_check_1(p_node, p_by_incarnation);
    INSERT INTO waypost.write_mark VALUES (p_node, p_by_incarnation, p_by_batch, '{}', waypost.now_1());
    RETURN EXISTS (SELECT FROM waypost.write_mark
        WHERE node = p_node AND incarnation = p_incarnation AND batch = p_batch);
END $$;

CREATE OR REPLACE FUNCTION waypost.find_answers_1(p_clients bytea[], p_sequences bigint[], p_messages bytea[])
RETURNS TABLE (n bigint, record bytea, given_up boolean, sum bytea)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET plan_cache_mode = force_custom_plan AS $$
BEGIN
    RETURN QUERY SELECT u.n, a.record, a.given_up, a.sum
        FROM unnest(p_clients, p_sequences, p_messages) WITH ORDINALITY AS u (client, sequence, message, n)
        JOIN waypost.answer a ON a.client = u.client AND a.sequence = u.sequence AND a.message = u.message;
END $$;

-- Remove some answers that are too old; returns how many.
CREATE OR REPLACE FUNCTION waypost.trim_answers_1(p_ttl_s float8, p_most int) RETURNS int
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_accounts bytea[];
    v_changes bigint[];
BEGIN
    PERFORM waypost.begin_write_1();
    PERFORM 1 FROM waypost.answer_lock WHERE id = 1 FOR UPDATE;
    WITH gone AS (
        DELETE FROM waypost.answer a WHERE (a.client, a.sequence, a.message) IN (
            SELECT o.client, o.sequence, o.message FROM waypost.answer o
            WHERE o.at < waypost.now_1() - p_ttl_s LIMIT p_most)
            RETURNING a.account, waypost.answer_bytes_1(a.record) AS bytes
    )
    SELECT array_agg(account), array_agg(-bytes) INTO v_accounts, v_changes FROM gone;
    IF v_accounts IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM waypost.count_answers_1(v_accounts, v_changes);
    RETURN cardinality(v_accounts);
END $$;

-- Remove some of the counts that others have followed; returns how many.
CREATE OR REPLACE FUNCTION waypost.trim_answer_counts_1(p_most int) RETURNS int
LANGUAGE plpgsql VOLATILE SET enable_seqscan = off
    SET plan_cache_mode = force_custom_plan AS $$
DECLARE
    v_gone int;
    v_more int;
BEGIN
    PERFORM 1 FROM waypost.answer_lock WHERE id = 1 FOR UPDATE;
    DELETE FROM waypost.answer_total t WHERE t.n IN (
        SELECT o.n FROM waypost.answer_total o
        WHERE o.n < (SELECT max(n) FROM waypost.answer_total) ORDER BY o.n LIMIT p_most);
    GET DIAGNOSTICS v_gone = ROW_COUNT;
    DELETE FROM waypost.answer_use u WHERE (u.account, u.n) IN (
        SELECT o.account, o.n FROM waypost.answer_use o
        WHERE o.bytes <= 0 OR EXISTS (
            SELECT 1 FROM waypost.answer_use newer WHERE newer.account = o.account AND newer.n > o.n)
        LIMIT p_most)
        -- One of nothing counts for earlier ones as long as these are there.
        AND (u.bytes > 0 OR NOT EXISTS (
            SELECT 1 FROM waypost.answer_use older WHERE older.account = u.account AND older.n < u.n));
    GET DIAGNOSTICS v_more = ROW_COUNT;
    RETURN v_gone + v_more;
END $$;
