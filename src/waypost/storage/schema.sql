-- Version 4. Run once, in one transaction, on an empty file. Times are wall time in seconds.

-- One row: how often the file was opened and closed.
CREATE TABLE opening (counted INTEGER NOT NULL) STRICT;
INSERT INTO opening VALUES (0);

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
    reserved   INTEGER
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
    PRIMARY KEY (journal, first)
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
    PRIMARY KEY (journal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_age ON tombstone (journal, expired_at);

CREATE TABLE membership (
    session INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    room    TEXT NOT NULL,
    since   INTEGER NOT NULL,
    until   INTEGER,              -- NULL while it is in
    journal INTEGER NOT NULL,
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
    settings     BLOB
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
    PRIMARY KEY (queue, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_key ON message (queue, key, position) WHERE key IS NOT NULL;
CREATE INDEX message_expiry ON message (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX message_consumer ON message (consumer) WHERE consumer IS NOT NULL;

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
    record   BLOB NOT NULL
) STRICT;
CREATE INDEX scheduled_due ON scheduled (due_at, number);
CREATE INDEX scheduled_queue ON scheduled (queue);

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
    record      BLOB NOT NULL
) STRICT;
CREATE INDEX dead_letter_queue ON dead_letter (queue, number);
CREATE INDEX dead_letter_consumer ON dead_letter (consumer, number);
CREATE INDEX dead_letter_age ON dead_letter (died_at);

-- The oldest message that a connection or worker has in hand, written lazily; what is here after a crash is counted.
CREATE TABLE holding (
    consumer INTEGER NOT NULL,
    holder   TEXT NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (consumer, holder)
) STRICT, WITHOUT ROWID;

-- What applications publish in transactions of their own; moved into the queues soon after.
CREATE TABLE outbox (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    queue         TEXT NOT NULL,
    id            TEXT NOT NULL,
    record        BLOB NOT NULL,
    key           TEXT,
    ttl_s         REAL,
    delay_s       REAL NOT NULL,
    deduplicate_s REAL NOT NULL,
    published_at  REAL NOT NULL
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
    INSERT INTO answer_use VALUES (new.account, 256 + length(new.record)), ('total', 256 + length(new.record))
        ON CONFLICT (account) DO UPDATE SET bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER answer_changed AFTER UPDATE OF record ON answer BEGIN
    UPDATE answer_use SET bytes = bytes + length(new.record) - length(old.record)
        WHERE account IN (new.account, 'total');
END;
CREATE TRIGGER answer_removed AFTER DELETE ON answer BEGIN
    UPDATE answer_use SET bytes = bytes - 256 - length(old.record) WHERE account IN (old.account, 'total');
    DELETE FROM answer_use WHERE account = old.account AND bytes <= 0;
END;
