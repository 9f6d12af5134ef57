CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    call_id TEXT NOT NULL CHECK (length(call_id) BETWEEN 1 AND 255),
    arrived_at REAL NOT NULL,
    -- facts: what the VoIP service says
    direction TEXT CHECK (direction IN ('inbound', 'outbound')),
    phone TEXT,
    person_weight INTEGER,
    extension TEXT,
    user_id INTEGER,
    started_at REAL,
    status TEXT CHECK (status IN ('answered', 'voicemail', 'busy', 'no_answer', 'cancelled', 'failed')),
    duration INTEGER CHECK (duration >= 0),
    -- the manager's call result
    result_rev INTEGER,
    result TEXT CHECK (result IS NULL OR json_valid(result)),
    -- recording
    recording TEXT NOT NULL DEFAULT 'none'
        CHECK (recording IN ('none', 'expected', 'ready', 'failed', 'never', 'deleted')),
    recording_url TEXT,
    -- entry: what stands in Kommo; entity_id is null until it does
    entity_type TEXT CHECK (entity_type IN ('leads', 'contacts', 'companies', 'customers')),
    entity_id INTEGER,
    note_id INTEGER,
    lead_uid TEXT,
    contact_id INTEGER,
    -- state
    state TEXT NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'awaiting_result', 'in_doubt', 'awaiting_contact',
                         'logged', 'expired', 'ignored', 'failed')),
    revision INTEGER NOT NULL DEFAULT 1,
    written_revision INTEGER NOT NULL DEFAULT 0,
    due_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    nobody_at REAL,
    asked INTEGER NOT NULL DEFAULT 0,
    last_error TEXT,
    -- a creating request whose answer is not on disk
    intent TEXT CHECK (intent IN ('log_call', 'create_incoming_lead')),
    intent_over_at REAL,
    intent_revision INTEGER,
    looked_at REAL,
    -- the worker that holds the call
    lease TEXT,
    lease_until REAL,
    UNIQUE (account_id, call_id),
    CHECK ((entity_type IS NULL) = (entity_id IS NULL)),
    CHECK ((status IS NULL) = (duration IS NULL)),
    CHECK ((intent IS NULL) = (intent_over_at IS NULL)),
    CHECK ((intent IS NULL) = (intent_revision IS NULL)),
    CHECK ((lease IS NULL) = (lease_until IS NULL)),
    CHECK (state <> 'logged' OR entity_id IS NOT NULL)
) STRICT;

CREATE INDEX calls_due ON calls (account_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX calls_unlogged ON calls (state, id) WHERE state <> 'logged';

CREATE TABLE journal (
    call INTEGER NOT NULL REFERENCES calls (id),
    line INTEGER NOT NULL,
    at REAL NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT,
    body BLOB,
    times INTEGER NOT NULL DEFAULT 1,
    last_at REAL NOT NULL,
    PRIMARY KEY (call, line)
) STRICT, WITHOUT ROWID;

CREATE TABLE pauses (
    account_id INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    tried_at REAL NOT NULL,
    probe_at REAL NOT NULL,
    probes INTEGER NOT NULL
) STRICT;

-- Huey's own table, as huey.storage.SqliteStorage creates it, without its index: rings have no priorities.
CREATE TABLE task (
    id INTEGER NOT NULL PRIMARY KEY,
    queue TEXT NOT NULL,
    data BLOB NOT NULL,
    priority REAL NOT NULL DEFAULT 0.0
);

-- Whatever becomes known of a call rings for it, in the transaction that makes it known.
CREATE TRIGGER ring_for_new AFTER INSERT ON calls BEGIN
    INSERT INTO task (queue, data)
    VALUES ('calllogd', CAST(json_object('account_id', NEW.account_id, 'call_id', NEW.call_id) AS BLOB));
END;

CREATE TRIGGER ring_for_news AFTER UPDATE OF revision ON calls WHEN NEW.revision > OLD.revision BEGIN
    INSERT INTO task (queue, data)
    VALUES ('calllogd', CAST(json_object('account_id', NEW.account_id, 'call_id', NEW.call_id) AS BLOB));
END;

-- Calls with the message that was the first to tell of them. Whoever writes here writes a call, its journal and its
-- ring with one statement; a call that is known already is refused.
CREATE VIEW arrivals AS
SELECT
    account_id, call_id, arrived_at, direction, phone, person_weight, extension, user_id, started_at, status, duration,
    recording, recording_url, revision, due_at, who, what, body
FROM calls JOIN journal ON journal.call = calls.id AND journal.line = 1;

CREATE TRIGGER arrive INSTEAD OF INSERT ON arrivals BEGIN
    INSERT INTO calls (
        account_id, call_id, arrived_at, direction, phone, person_weight, extension, user_id, started_at, status,
        duration, recording, recording_url, revision, due_at
    ) VALUES (
        NEW.account_id, NEW.call_id, NEW.arrived_at, NEW.direction, NEW.phone, NEW.person_weight, NEW.extension,
        NEW.user_id, NEW.started_at, NEW.status, NEW.duration, NEW.recording, NEW.recording_url, NEW.revision,
        NEW.due_at
    );
    INSERT INTO journal (call, line, at, who, what, outcome, body, last_at)
    VALUES (last_insert_rowid(), 1, NEW.arrived_at, NEW.who, NEW.what, 'new call', NEW.body, NEW.arrived_at);
END;
