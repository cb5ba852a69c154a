-- Version 2. Run once, in one transaction, on an empty file. Times are wall time in seconds.

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
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    top      INTEGER NOT NULL,    -- the counter: positions go on from here even when no message is left
    messages INTEGER NOT NULL,    -- how many are kept
    bytes    INTEGER NOT NULL     -- of the records that are kept
) STRICT;

CREATE TABLE message (
    queue       INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    id          TEXT NOT NULL,
    enqueued_at REAL NOT NULL,
    key         TEXT,             -- key, visible_at, expires_at: reserved for ordering by key, delay, time to live
    visible_at  REAL,
    expires_at  REAL,
    record      BLOB NOT NULL,
    PRIMARY KEY (queue, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE deduplication (
    queue       INTEGER NOT NULL,
    id          TEXT NOT NULL,
    position    INTEGER NOT NULL,
    accepted_at REAL NOT NULL,
    until       REAL NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX deduplication_end ON deduplication (until);

CREATE TABLE consumer (
    id       INTEGER PRIMARY KEY,
    queue    INTEGER NOT NULL,
    name     TEXT NOT NULL,
    cursor   INTEGER NOT NULL,    -- all up to here is settled
    ahead    INTEGER NOT NULL,    -- how many are settled beyond it
    ordering TEXT,                -- ordering, paused: reserved
    paused   INTEGER,
    UNIQUE (queue, name)
) STRICT;
CREATE INDEX consumer_cursor ON consumer (queue, cursor);

-- What is settled beyond a consumer's cursor, as runs that neither overlap nor touch.
CREATE TABLE settled (
    consumer INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    last     INTEGER NOT NULL,
    PRIMARY KEY (consumer, first)
) STRICT, WITHOUT ROWID;

CREATE TABLE delivery (
    consumer INTEGER NOT NULL,
    position INTEGER NOT NULL,
    lost     INTEGER NOT NULL,    -- deliveries that were counted as lost
    failures INTEGER,             -- reserved: rejections and leases that ran out
    PRIMARY KEY (consumer, position)
) STRICT, WITHOUT ROWID;

-- Reserved: messages given up on, with why.
CREATE TABLE dead_letter (
    consumer INTEGER NOT NULL,
    position INTEGER NOT NULL,
    died_at  REAL NOT NULL,
    reason   TEXT NOT NULL,
    PRIMARY KEY (consumer, position)
) STRICT, WITHOUT ROWID;
