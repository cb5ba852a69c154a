-- Version 6. Run once, in one transaction, on an empty file. Times are in seconds since 1970.
--
-- A file of an older version gets what it lacks when it is opened, without reading its large tables. So a new column
-- stands last, and may be NULL or has a constant default; a new index on a large table is a table beside it instead.
--
-- Sums are CRC-32 (storage/sqlite/sums.py). A row that version 5 wrote has none.

-- One row: how often the file was opened and closed, and by whom.
CREATE TABLE opening (
    counted INTEGER NOT NULL,
    mark    INTEGER NOT NULL DEFAULT 0,   -- moves with the commits, and beside the file
    clock   REAL,                         -- the last noted value of the store's clock
    ahead_s REAL NOT NULL DEFAULT 0,      -- how far it is ahead of the wall clock
    version TEXT,                         -- the Waypost that opened it last
    copied_at REAL,                       -- when `waypost store backup` made this copy; NULL once it was opened
    reserve_bytes INTEGER NOT NULL DEFAULT 16777216   -- the disk space that emits leave free
) STRICT;
INSERT INTO opening (counted) VALUES (0);

-- One row: the opening that may write. Nothing else is in its page, so that a commit reads it from memory.
CREATE TABLE owner (token TEXT NOT NULL) STRICT;
INSERT INTO owner VALUES ('');

-- Records that are too large for a row of a WITHOUT ROWID table, which would take whole pages for them. The rows that
-- they belong to have an empty record.
CREATE TABLE body (
    id     INTEGER PRIMARY KEY,
    record BLOB NOT NULL
) STRICT;

CREATE TABLE journal (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    generation TEXT NOT NULL,
    oldest     INTEGER NOT NULL,  -- the oldest position that is kept
    -- Counters as of the last trim. The last chunk knows better; if it is not behind them, these do, so that a
    -- position is not given again after all entries were trimmed, or after a crash.
    top        INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,  -- of all records ever appended
    -- While it is written to asynchronously: the last position that may have been given. So, if it is set when
    -- the file is opened, the last writes may be lost. NULL otherwise.
    reserved   INTEGER,
    tick       INTEGER NOT NULL DEFAULT 0   -- the last tick; 0 while only one server delivers
) STRICT;

-- Earlier generations, one for each opening, and the last position of each.
CREATE TABLE generation (
    id      INTEGER PRIMARY KEY,
    journal INTEGER NOT NULL,
    name    TEXT NOT NULL,
    ended   INTEGER NOT NULL
) STRICT;
CREATE INDEX generation_journal ON generation (journal);

-- Entries appended together are one row: a commit then costs one insert however many entries it has.
CREATE TABLE chunk (
    journal INTEGER NOT NULL,
    first   INTEGER NOT NULL,     -- the position of its first entry
    at      REAL NOT NULL,
    before  INTEGER NOT NULL,     -- bytes of all records before it, so that the bytes kept are a difference
    sizes   BLOB NOT NULL,        -- each record's size, 32 bits, little-endian
    records BLOB NOT NULL,        -- the records, one after the other
    sums    BLOB,                 -- each record's sum, 32 bits, little-endian
    body    INTEGER,
    tick    INTEGER,              -- of its first entry; NULL while only one server delivers
    PRIMARY KEY (journal, first)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER chunk_gone AFTER DELETE ON chunk WHEN old.body IS NOT NULL BEGIN
    DELETE FROM body WHERE id = old.body;
END;

-- What a journal's log has beside entries once several servers follow it: changes of rooms and of owners.
CREATE TABLE change (
    journal INTEGER NOT NULL,
    tick    INTEGER NOT NULL,
    record  BLOB NOT NULL,
    PRIMARY KEY (journal, tick)
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    id         INTEGER PRIMARY KEY,
    journal    INTEGER NOT NULL,
    key        BLOB NOT NULL,
    sid        TEXT NOT NULL,
    start      INTEGER NOT NULL,
    proven     INTEGER NOT NULL,
    last       INTEGER NOT NULL,  -- the last position up to there that was sent to it
    data       BLOB NOT NULL,
    expires_at REAL,              -- NULL while it is attached
    sum        INTEGER,           -- of key, sid and data
    marks      INTEGER,           -- of start, proven and last
    -- The event that was the first one sent on the last connections, none of which got beyond it, and their number.
    stuck_at   INTEGER NOT NULL DEFAULT 0,
    stuck_times INTEGER NOT NULL DEFAULT 0,
    owner      TEXT,              -- the server that delivers to it; NULL while there is only one
    fence      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (journal, key)
) STRICT;
CREATE INDEX session_expiry ON session (expires_at);
CREATE INDEX session_sid ON session (journal, sid);

-- What is left of a session that expired.
CREATE TABLE tombstone (
    journal    INTEGER NOT NULL,
    key        BLOB NOT NULL,
    sid        TEXT NOT NULL,
    expired_at REAL NOT NULL,
    reason     TEXT,              -- why it ended; NULL: its time was over
    PRIMARY KEY (journal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_age ON tombstone (journal, expired_at);

CREATE TABLE membership (
    session INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    room    TEXT NOT NULL,
    since   INTEGER NOT NULL,
    until   INTEGER,              -- NULL while it is in
    journal INTEGER NOT NULL,
    sum     INTEGER,              -- of session, room, since and until
    PRIMARY KEY (session, room, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX membership_room ON membership (journal, room) WHERE until IS NULL;
CREATE INDEX membership_left ON membership (journal, until) WHERE until IS NOT NULL;

CREATE TABLE queue (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    generation   TEXT NOT NULL,
    top          INTEGER NOT NULL DEFAULT 0,  -- positions go on from here even when no message is left
    for_all      INTEGER NOT NULL DEFAULT 0,  -- how many messages for all consumers there ever were
    epochs       INTEGER NOT NULL DEFAULT 0,  -- the newest epoch of its consumers
    messages     INTEGER NOT NULL DEFAULT 0,  -- how many are kept
    delayed      INTEGER NOT NULL DEFAULT 0,  -- how many are scheduled
    bytes        INTEGER NOT NULL DEFAULT 0,  -- of the records of both
    consumers    INTEGER NOT NULL DEFAULT 0,
    dead         INTEGER NOT NULL DEFAULT 0,
    expired      INTEGER NOT NULL DEFAULT 0,
    dropped      INTEGER NOT NULL DEFAULT 0,
    paused_until REAL,
    max_messages INTEGER,                     -- its own limits; NULL, all of them, for the store's
    max_bytes    INTEGER,
    max_age_s    REAL,
    overflow     TEXT,
    settings     BLOB,
    keep_settled_s REAL,
    -- Messages up to here are gone, though their rows may not be yet; likewise for those that are scheduled.
    floor        INTEGER NOT NULL DEFAULT 0,
    scheduled_floor INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE message (
    queue       INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    id          TEXT NOT NULL,
    enqueued_at REAL NOT NULL,
    key         TEXT,
    expires_at  REAL,
    consumer    INTEGER,          -- the only one it is for; NULL if it is for all
    history     TEXT,             -- of its attempts before it was redriven
    record      BLOB NOT NULL,
    headers     TEXT,
    sum         INTEGER,          -- of id, key, headers and record
    size        INTEGER,          -- of record and headers, in bytes; NULL: the record's
    body        INTEGER,
    PRIMARY KEY (queue, position)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER message_gone AFTER DELETE ON message WHEN old.body IS NOT NULL BEGIN
    DELETE FROM body WHERE id = old.body;
END;
CREATE INDEX message_key ON message (queue, key, position) WHERE key IS NOT NULL;
CREATE INDEX message_expiry ON message (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX message_consumer ON message (consumer) WHERE consumer IS NOT NULL;

-- Messages that every consumer has settled and that are kept for a while: runs of positions, and when. A consumer
-- that was moved back, or came later, may want some of them all the same.
CREATE TABLE settled (
    queue INTEGER NOT NULL,
    first INTEGER NOT NULL,
    at    REAL NOT NULL,
    last  INTEGER NOT NULL,
    PRIMARY KEY (queue, first, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX settled_age ON settled (at);

-- Messages that are not due yet; they get their positions then.
CREATE TABLE scheduled (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    INTEGER NOT NULL,
    due_at   REAL NOT NULL,
    id       TEXT NOT NULL,
    key      TEXT,
    ttl_s    REAL,
    consumer INTEGER,
    history  TEXT,
    record   BLOB NOT NULL,
    headers  TEXT,
    sum      INTEGER
) STRICT;
CREATE INDEX scheduled_due ON scheduled (due_at, number);
-- A file of version 5 with very many rows has an index on the queue alone until they are fewer.
CREATE INDEX scheduled_id ON scheduled (queue, id);

CREATE TABLE deduplication (
    queue       INTEGER NOT NULL,
    id          TEXT NOT NULL,
    position    INTEGER NOT NULL, -- while it is scheduled: its number, negative
    accepted_at REAL NOT NULL,
    until       REAL NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deduplication_end ON deduplication (until);

CREATE TABLE consumer (
    id           INTEGER PRIMARY KEY,
    queue        INTEGER NOT NULL,
    name         TEXT NOT NULL,
    epoch        INTEGER NOT NULL,
    frontier     INTEGER NOT NULL,            -- up to here it has settled all but what is outstanding, beyond nothing
    -- The queue's count of messages for all, less how many are for it beyond the frontier: so a new message
    -- changes no row of a consumer.
    passed       INTEGER NOT NULL,
    outstanding  INTEGER NOT NULL DEFAULT 0,  -- how many rows it has there
    retrying     INTEGER NOT NULL DEFAULT 0,  -- how many of these are to be retried
    settled      INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    redelivered  INTEGER NOT NULL DEFAULT 0,
    dead         INTEGER NOT NULL DEFAULT 0,
    lost         INTEGER NOT NULL DEFAULT 0,  -- what it lost and was not told of: how many, the first, the last
    lost_first   INTEGER NOT NULL DEFAULT 0,
    lost_last    INTEGER NOT NULL DEFAULT 0,
    paused_until REAL,
    active_at    REAL NOT NULL,
    ledger       INTEGER,                     -- its number in `outstanding`; NULL: its own
    owner        TEXT,                        -- the server that serves it; NULL while there is only one
    fence        INTEGER NOT NULL DEFAULT 0,
    UNIQUE (queue, name)
) STRICT;
CREATE INDEX consumer_frontier ON consumer (queue, frontier);

-- The exceptions: what a consumer's frontier has passed and it has not settled.
CREATE TABLE outstanding (
    consumer INTEGER NOT NULL,
    position INTEGER NOT NULL,
    queue    INTEGER NOT NULL,
    key      TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    losses   INTEGER NOT NULL DEFAULT 0,
    retry_at REAL NOT NULL DEFAULT 0,         -- 0 if it never failed
    history  TEXT,
    breaks   INTEGER NOT NULL DEFAULT 0,      -- connections in a row that broke before its ack
    breaks_since INTEGER NOT NULL DEFAULT 0,  -- how many the consumer had settled at the last one
    deaths   INTEGER NOT NULL DEFAULT 0,      -- how often the process ended while a function of it had it in hand
    PRIMARY KEY (consumer, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX outstanding_message ON outstanding (queue, position);
CREATE INDEX outstanding_retry ON outstanding (consumer, retry_at, position) WHERE retry_at > 0;
CREATE INDEX outstanding_key ON outstanding (consumer, key, position) WHERE key IS NOT NULL;

CREATE TABLE dead_letter (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    queue       INTEGER NOT NULL,
    consumer    INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    id          TEXT NOT NULL,
    key         TEXT,
    enqueued_at REAL NOT NULL,
    died_at     REAL NOT NULL,
    reason      TEXT NOT NULL,
    failures    INTEGER NOT NULL,
    losses      INTEGER NOT NULL,
    history     TEXT,
    record      BLOB NOT NULL,
    headers     TEXT,
    sum         INTEGER,
    exception   TEXT          -- the type of the last attempt's exception
) STRICT;
CREATE INDEX dead_letter_queue ON dead_letter (queue, number);
CREATE INDEX dead_letter_consumer ON dead_letter (consumer, number);
CREATE INDEX dead_letter_age ON dead_letter (died_at);

-- Long work that is done in steps, and goes on after a kill.
CREATE TABLE sweep (
    id       INTEGER PRIMARY KEY,
    queue    INTEGER NOT NULL,
    consumer INTEGER,
    kind     TEXT NOT NULL,
    position INTEGER NOT NULL,
    upto     INTEGER NOT NULL
) STRICT;

-- When each named schedule fired last, as a time of its own.
CREATE TABLE schedule (
    name    TEXT PRIMARY KEY,
    last_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The oldest message that a connection or worker has in hand, written lazily; what is here after a crash is counted.
CREATE TABLE holding (
    consumer INTEGER NOT NULL,
    holder   TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (consumer, holder)
) STRICT, WITHOUT ROWID;

-- What applications publish in transactions of their own; moved into the queues soon after. Without a queue ('') it is
-- a write to a journal: an emit, or a change of rooms or sessions (storage/outside.py). Ids of these are in
-- `deduplication` under their journal's number, negative.
CREATE TABLE outbox (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    queue         TEXT NOT NULL,
    id            TEXT NOT NULL,
    record        BLOB NOT NULL,
    key           TEXT,
    ttl_s         REAL,
    delay_s       REAL NOT NULL,
    deduplicate_s REAL NOT NULL,
    published_at  REAL NOT NULL,
    headers       TEXT,
    sum           INTEGER
) STRICT;

-- Queues that another program has changed while the store was open.
CREATE TABLE changed (queue TEXT NOT NULL PRIMARY KEY) STRICT, WITHOUT ROWID;

-- What clients were answered to messages that they may send again, until they say that they have it. An answer that was
-- given up has no record any more.
CREATE TABLE answer (
    client   BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    message  TEXT NOT NULL,
    at       REAL NOT NULL,
    account  TEXT NOT NULL,
    given_up INTEGER NOT NULL DEFAULT 0,
    record   BLOB NOT NULL,
    sum      INTEGER,             -- of client, message and record
    size     INTEGER,             -- of the record, in bytes; NULL: it is no body
    body     INTEGER,
    PRIMARY KEY (client, sequence, message)
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_age ON answer (at);
CREATE INDEX answer_account ON answer (account, given_up, at);

-- How many bytes the answers of each account take, and all of them ('total').
CREATE TABLE answer_use (
    account TEXT PRIMARY KEY,
    bytes   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answer_use_bytes ON answer_use (bytes);
CREATE TRIGGER answer_added AFTER INSERT ON answer BEGIN
    INSERT INTO answer_use VALUES
        (new.account, 256 + coalesce(new.size, length(new.record))),
        ('total', 256 + coalesce(new.size, length(new.record)))
        ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER answer_changed AFTER UPDATE OF record ON answer BEGIN
    UPDATE answer_use
        SET bytes = bytes + coalesce(new.size, length(new.record)) - coalesce(old.size, length(old.record))
        WHERE account IN (new.account, 'total');
    DELETE FROM body WHERE id = old.body AND new.body IS NULL;
END;
CREATE TRIGGER answer_removed AFTER DELETE ON answer BEGIN
    UPDATE answer_use SET bytes = bytes - 256 - coalesce(old.size, length(old.record))
        WHERE account IN (old.account, 'total');
    DELETE FROM answer_use WHERE account = old.account AND bytes <= 0;
    DELETE FROM body WHERE id = old.body;
END;
