-- Queues: their messages, consumers, and what is left to be done for them.
--
-- Each writing function takes the lock of one queue, its row in `queue`, first. What changes with each message is
-- never updated: the state of a queue, or of a consumer, is a row for each change with a rising number `n`, of which
-- the last one counts. So a snapshot that somebody holds open makes nothing slower. Nothing reads from the beginning of
-- an index of which the beginning may be gone: `floor` and `low` say where the first row that counts is.

CREATE TABLE IF NOT EXISTS waypost.queue (
    id             int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text COLLATE "C" UNIQUE,   -- NULL: it was deleted, and its rows are removed in steps
    generation     text NOT NULL,
    paused_until   float8,
    max_messages   bigint,                    -- its own limits; NULL, all of them, for the store's
    max_bytes      bigint,
    max_age_s      float8,
    overflow       text,
    keep_settled_s float8,
    settings       bytea
);

CREATE TABLE IF NOT EXISTS waypost.queue_state (
    queue     int NOT NULL,
    n         bigint NOT NULL,
    top       bigint NOT NULL,   -- positions go on from here even when no message is left
    floor     bigint NOT NULL,   -- the position before the oldest message; `top` without one
    for_all   bigint NOT NULL,   -- how many messages for all consumers there ever were
    messages  bigint NOT NULL,   -- how many are kept
    delayed   bigint NOT NULL,   -- how many are scheduled
    bytes     bigint NOT NULL,   -- of the records of both
    consumers bigint NOT NULL,
    dead      bigint NOT NULL,
    expired   bigint NOT NULL,
    dropped   bigint NOT NULL,
    epochs    bigint NOT NULL,   -- the newest epoch of its consumers
    scheduled_floor bigint NOT NULL,   -- what was scheduled up to this number is gone, though its rows may not be yet
    PRIMARY KEY (queue, n)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE IF NOT EXISTS waypost.message (
    queue       int NOT NULL,
    position    bigint NOT NULL,
    enqueued_at float8 NOT NULL,
    expires_at  float8,
    consumer    bigint,          -- the only one it is for; NULL if it is for all
    sum         bigint,          -- of id, key, headers and record; NULL: SQL has added it
    size        int NOT NULL,    -- of record and headers, in bytes
    node        int NOT NULL,    -- which node has added it
    id          text NOT NULL,
    key         text,
    history     jsonb,           -- of its attempts before it was redriven
    headers     text,
    record      bytea NOT NULL,
    PRIMARY KEY (queue, position)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS message_key ON waypost.message (queue, key, position) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_expiry ON waypost.message (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_consumer ON waypost.message (consumer, position) WHERE consumer IS NOT NULL;

-- Messages that every consumer has settled and that are kept for a while: runs of positions, and since when. A consumer
-- that was moved back, or came later, may want some of them all the same.
CREATE TABLE IF NOT EXISTS waypost.settled (
    queue int NOT NULL,
    first bigint NOT NULL,
    at    float8 NOT NULL,
    last  bigint NOT NULL,
    PRIMARY KEY (queue, first, at)
);
CREATE INDEX IF NOT EXISTS settled_age ON waypost.settled (queue, at);

-- Messages that are not due yet; they get their positions then.
CREATE TABLE IF NOT EXISTS waypost.scheduled (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue    int NOT NULL,
    due_at   float8 NOT NULL,
    ttl_s    float8,
    consumer bigint,
    sum      bigint,
    size     int NOT NULL,
    node     int NOT NULL,
    id       text NOT NULL,
    key      text,
    history  jsonb,
    headers  text,
    record   bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS scheduled_due ON waypost.scheduled (due_at, number);
CREATE INDEX IF NOT EXISTS scheduled_id ON waypost.scheduled (queue, id);

CREATE TABLE IF NOT EXISTS waypost.deduplication (
    queue       int NOT NULL,
    id          text NOT NULL,
    position    bigint NOT NULL,   -- while it is scheduled: its number, negative
    accepted_at float8 NOT NULL,
    until       float8 NOT NULL,
    PRIMARY KEY (queue, id)
);
CREATE INDEX IF NOT EXISTS deduplication_end ON waypost.deduplication (until);

CREATE TABLE IF NOT EXISTS waypost.consumer (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue        int NOT NULL,              -- negative: it was removed, and its rows are removed in steps
    name         text COLLATE "C" NOT NULL,
    paused_until float8,
    UNIQUE (queue, name)
);

CREATE TABLE IF NOT EXISTS waypost.consumer_state (
    consumer    bigint NOT NULL,
    n           bigint NOT NULL,
    epoch       bigint NOT NULL,
    frontier    bigint NOT NULL,   -- up to here it has settled all but what is outstanding, beyond nothing
    -- The queue's count of messages for all, less how many are for it beyond the frontier: so a new message changes
    -- nothing of a consumer.
    passed      bigint NOT NULL,
    ledger      bigint NOT NULL,   -- its number in `outstanding`
    low         bigint NOT NULL,   -- the first position there; 0 without one
    outstanding bigint NOT NULL,   -- how many rows it has there
    retrying    bigint NOT NULL,   -- how many of these are to be retried
    settled     bigint NOT NULL,
    failed      bigint NOT NULL,
    redelivered bigint NOT NULL,
    dead        bigint NOT NULL,
    lost        bigint NOT NULL,   -- what it lost and was not told of: how many, the first, the last
    lost_first  bigint NOT NULL,
    lost_last   bigint NOT NULL,
    active_at   float8 NOT NULL,
    PRIMARY KEY (consumer, n)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The exceptions: what a consumer's frontier has passed and it has not settled.
CREATE SEQUENCE IF NOT EXISTS waypost.ledger;
CREATE TABLE IF NOT EXISTS waypost.outstanding (
    ledger   bigint NOT NULL,
    position bigint NOT NULL,
    queue    int NOT NULL,
    key      text,
    failures bigint NOT NULL DEFAULT 0,
    losses   bigint NOT NULL DEFAULT 0,
    retry_at float8 NOT NULL DEFAULT 0,          -- 0 if it never failed
    breaks   bigint NOT NULL DEFAULT 0,          -- connections in a row that broke before its ack
    breaks_since bigint NOT NULL DEFAULT 0,      -- how many the consumer had settled at the last one
    deaths   bigint NOT NULL DEFAULT 0,          -- how often the process ended while a function of it had it in hand
    history  jsonb,
    PRIMARY KEY (ledger, position)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS outstanding_message ON waypost.outstanding (queue, position);
CREATE INDEX IF NOT EXISTS outstanding_retry ON waypost.outstanding (ledger, retry_at, position) WHERE retry_at > 0;
CREATE INDEX IF NOT EXISTS outstanding_key ON waypost.outstanding (ledger, key, position) WHERE key IS NOT NULL;

CREATE TABLE IF NOT EXISTS waypost.dead_letter (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue       int NOT NULL,
    consumer    bigint NOT NULL,
    position    bigint NOT NULL,
    enqueued_at float8 NOT NULL,
    died_at     float8 NOT NULL,
    failures    bigint NOT NULL,
    losses      bigint NOT NULL,
    sum         bigint,
    size        int NOT NULL,
    id          text NOT NULL,
    key         text,
    reason      text NOT NULL,
    exception   text,
    history     jsonb,
    headers     text,
    record      bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS dead_letter_queue ON waypost.dead_letter (queue, number);
CREATE INDEX IF NOT EXISTS dead_letter_consumer ON waypost.dead_letter (consumer, number);
CREATE INDEX IF NOT EXISTS dead_letter_age ON waypost.dead_letter (died_at);

-- Long work that is done in steps.
CREATE TABLE IF NOT EXISTS waypost.sweep (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue    int NOT NULL,
    consumer bigint,                             -- the number of a consumer, or of a ledger
    kind     text NOT NULL,
    position bigint NOT NULL,                    -- how far it is
    upto     bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS sweep_queue ON waypost.sweep (queue, id);

-- When each named schedule fired last, as a time of day.
CREATE TABLE IF NOT EXISTS waypost.schedule (
    name    text PRIMARY KEY,
    last_at float8 NOT NULL
);

-- The oldest message that each function of a node has in hand, written lazily: what is here when the node dies is
-- counted as lost. A change is another row.
CREATE TABLE IF NOT EXISTS waypost.holding (
    node     int NOT NULL,
    n        bigint NOT NULL,
    queue    int NOT NULL,
    consumer bigint NOT NULL,
    epoch    bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (node, n)
);

-- Which consumers each node has something attached to, as of its last call of `expire_consumers`.
CREATE TABLE IF NOT EXISTS waypost.consumer_attached (
    queue    text COLLATE "C" NOT NULL,
    consumer text COLLATE "C" NOT NULL,
    node     int NOT NULL,
    PRIMARY KEY (queue, consumer, node)
);
CREATE INDEX IF NOT EXISTS consumer_attached_node ON waypost.consumer_attached (node);
