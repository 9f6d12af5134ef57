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
    -- the legs that these facts are read off, where the VoIP service tells of legs, and when it last told something new
    legs TEXT CHECK (legs IS NULL OR json_valid(legs)),
    heard_at REAL,
    -- what the widget says, and the manager's call result
    widget TEXT CHECK (widget IS NULL OR json_valid(widget)),
    result TEXT CHECK (result IS NULL OR json_valid(result)),
    -- when Kommo last told of a contact with the number
    appeared_at REAL,
    -- recording
    recording TEXT NOT NULL DEFAULT 'none'
        CHECK (recording IN ('none', 'expected', 'ready', 'failed', 'never', 'deleted')),
    recording_url TEXT,
    recording_type TEXT,
    -- fetching it: when it is to be tried next (null: at once), how often it was, what went wrong, who is at it
    fetch_due_at REAL,
    fetch_attempts INTEGER NOT NULL DEFAULT 0,
    fetch_error TEXT,
    -- entry: what stands in Kommo; entity_id is null until it does
    entity_type TEXT CHECK (entity_type IN ('leads', 'contacts', 'companies', 'customers')),
    entity_id INTEGER,
    note_id INTEGER,
    lead_uid TEXT,
    contact_id INTEGER,
    -- the entry that it replaces, until that has been cleared away
    leaving TEXT CHECK (leaving IS NULL OR json_valid(leaving)),
    task_id INTEGER,
    -- until then Kommo may still carry out an amendment whose answer is not on disk
    shaky_until REAL,
    -- last ten digits of the number, once the call has been worked on
    number TEXT,
    -- state
    state TEXT NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'awaiting_result', 'in_doubt', 'awaiting_contact',
                         'logged', 'expired', 'ignored', 'failed')),
    revision INTEGER NOT NULL DEFAULT 1,
    written_revision INTEGER NOT NULL DEFAULT 0,
    -- whose call the entry says that it is, and by which extension; null: nobody's
    written_extension TEXT,
    written_user INTEGER,
    due_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    nobody_at REAL,
    asked INTEGER NOT NULL DEFAULT 0,
    declined INTEGER NOT NULL DEFAULT 0 CHECK (declined IN (0, 1)),
    last_error TEXT,
    -- a creating request whose answer is not on disk
    intent TEXT CHECK (intent IN ('log_call', 'create_incoming_lead', 'add_note', 'add_task')),
    intent_over_at REAL,
    intent_revision INTEGER,
    intent_type TEXT CHECK (intent_type IN ('leads', 'contacts', 'companies', 'customers')),
    intent_id INTEGER,
    intent_lead_uid TEXT,
    intent_todo TEXT CHECK (intent_todo IS NULL OR json_valid(intent_todo)),
    intent_extension TEXT,
    intent_user INTEGER,
    looked_at REAL,
    -- the worker that holds the call
    lease TEXT,
    lease_until REAL,
    UNIQUE (account_id, call_id),
    CHECK ((entity_type IS NULL) = (entity_id IS NULL)),
    CHECK ((status IS NULL) = (duration IS NULL)),
    CHECK ((intent IS NULL) = (intent_over_at IS NULL)),
    CHECK ((intent IS NULL) = (intent_revision IS NULL)),
    CHECK ((intent_type IS NULL) = (intent_id IS NULL)),
    CHECK ((written_user IS NULL) = (written_extension IS NULL)),
    CHECK ((intent_user IS NULL) = (intent_extension IS NULL)),
    CHECK ((lease IS NULL) = (lease_until IS NULL)),
    CHECK (state <> 'logged' OR entity_id IS NOT NULL)
) STRICT;

-- Due calls by their rank: those that are to become incoming leads, other new entries, amendments.
CREATE INDEX calls_due ON calls (
    account_id,
    CASE WHEN entity_id IS NOT NULL THEN 2 WHEN nobody_at IS NOT NULL AND direction = 'inbound' THEN 0 ELSE 1 END,
    due_at
) WHERE due_at IS NOT NULL;
CREATE INDEX calls_unlogged ON calls (state, id) WHERE state <> 'logged';
-- The next three leave out whatever has just arrived: accepting writes to none of them.
CREATE INDEX calls_number ON calls (account_id, number) WHERE number IS NOT NULL;
CREATE INDEX calls_lead ON calls (account_id, lead_uid) WHERE lead_uid IS NOT NULL;
CREATE INDEX calls_to_fetch ON calls (fetch_due_at) WHERE recording = 'expected';
-- Calls without a result, by whose they are: a user's id as a number, an extension as a text. What has just arrived is
-- left out here, too.
CREATE INDEX calls_open ON calls (
    account_id,
    CASE WHEN person_weight IS NULL THEN widget ->> '$.facts.person[2]' WHEN user_id > 0 THEN user_id ELSE extension END,
    arrived_at
) WHERE result IS NULL AND (number IS NOT NULL OR state <> 'pending');
-- Calls that name an extension and are nobody's in Kommo, but for those that policy leaves out. Accepting does not write
-- here, and neither does working on the usual call: it is pending until it stands in Kommo with its user. The last columns
-- are there for rows not to be read.
CREATE INDEX calls_of_nobody ON calls (account_id, extension, arrived_at, state, written_user, user_id)
WHERE written_user IS NULL AND extension <> '' AND user_id = 0 AND state <> 'pending' AND state <> 'ignored';

-- What is known of the incoming leads that calls were made into, by the last ten digits of their number.
CREATE TABLE incoming_leads (
    account_id INTEGER NOT NULL,
    uid TEXT NOT NULL,
    number TEXT NOT NULL,
    lead_id INTEGER NOT NULL,
    contact_id INTEGER,
    state TEXT NOT NULL CHECK (state IN ('open', 'accepted', 'declined')),
    made_at REAL NOT NULL,
    known_at REAL NOT NULL,
    PRIMARY KEY (account_id, uid)
) STRICT, WITHOUT ROWID;

CREATE INDEX incoming_leads_number ON incoming_leads (account_id, number, made_at);

-- Keys that calllogd made for itself, for links that have to hold for years; sealed.
CREATE TABLE keys (
    name TEXT PRIMARY KEY,
    sealed TEXT NOT NULL
) STRICT;

-- Accounts that were installed by OAuth. Tokens are sealed, and `generation` grows with each new pair of them.
CREATE TABLE accounts (
    account_id INTEGER PRIMARY KEY,
    base_url TEXT NOT NULL,
    name TEXT NOT NULL,
    region TEXT,
    state TEXT NOT NULL CHECK (state IN ('installed', 'disabled')),
    installed_at REAL NOT NULL,
    tokens TEXT NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    issued_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    -- why the last refresh failed, and since when they do
    trouble TEXT,
    troubled_at REAL,
    -- who is refreshing
    lease TEXT,
    lease_until REAL,
    CHECK ((trouble IS NULL) = (troubled_at IS NULL)),
    CHECK ((lease IS NULL) = (lease_until IS NULL))
) STRICT;

-- Whose telephone it is, as the administrators say in the widget.
CREATE TABLE extensions (
    account_id INTEGER NOT NULL,
    extension TEXT NOT NULL CHECK (length(extension) BETWEEN 1 AND 64),
    user_id INTEGER NOT NULL,
    PRIMARY KEY (account_id, extension),
    UNIQUE (account_id, user_id)
) STRICT, WITHOUT ROWID;

-- Bearer tokens that VoIP services show, made by `calllogd voip-token`; sealed. An old one is good until `until`.
CREATE TABLE voip_tokens (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    provider TEXT NOT NULL,
    sealed TEXT NOT NULL,
    made_at REAL NOT NULL,
    until REAL
) STRICT;

CREATE INDEX voip_tokens_account ON voip_tokens (account_id, provider);

-- Messages of VoIP services that are authentic, but could not be understood; sealed, for they may hold secrets.
CREATE TABLE unread (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL,
    service TEXT NOT NULL,
    digest BLOB NOT NULL,
    reason TEXT NOT NULL,
    sealed TEXT NOT NULL,
    came_at REAL NOT NULL,
    last_at REAL NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,
    UNIQUE (account_id, service, digest)
) STRICT;

-- How far the files have been read in which a VoIP service writes its calls.
CREATE TABLE followed (
    account_id INTEGER NOT NULL,
    service TEXT NOT NULL,
    path TEXT NOT NULL,
    inode INTEGER NOT NULL,
    position INTEGER NOT NULL,
    head_bytes INTEGER NOT NULL,
    head BLOB NOT NULL,
    PRIMARY KEY (account_id, service)
) STRICT, WITHOUT ROWID;

-- Until when the calls of a VoIP service are known to be complete, and when it is to be asked for more.
CREATE TABLE caught_up (
    account_id INTEGER NOT NULL,
    service TEXT NOT NULL,
    until REAL NOT NULL,
    due_at REAL NOT NULL,
    -- why it could not be asked the last time
    trouble TEXT,
    PRIMARY KEY (account_id, service)
) STRICT, WITHOUT ROWID;

-- Imports that have not come to their end.
CREATE TABLE imports (
    account_id INTEGER NOT NULL,
    service TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    reached REAL NOT NULL,
    PRIMARY KEY (account_id, service, since, until)
) STRICT, WITHOUT ROWID;

-- Grows with whatever a process has to be built anew for.
CREATE TABLE directory (revision INTEGER NOT NULL) STRICT;
INSERT INTO directory VALUES (1);

CREATE TRIGGER account_installed AFTER INSERT ON accounts BEGIN
    UPDATE directory SET revision = revision + 1;
END;
CREATE TRIGGER account_changed AFTER UPDATE OF base_url, name, region, state ON accounts
WHEN (OLD.base_url, OLD.name, OLD.region, OLD.state) IS NOT (NEW.base_url, NEW.name, NEW.region, NEW.state) BEGIN
    UPDATE directory SET revision = revision + 1;
END;
CREATE TRIGGER extension_added AFTER INSERT ON extensions BEGIN
    UPDATE directory SET revision = revision + 1;
END;
CREATE TRIGGER extension_removed AFTER DELETE ON extensions BEGIN
    UPDATE directory SET revision = revision + 1;
END;
CREATE TRIGGER voip_token_added AFTER INSERT ON voip_tokens BEGIN
    UPDATE directory SET revision = revision + 1;
END;
CREATE TRIGGER voip_token_removed AFTER DELETE ON voip_tokens BEGIN
    UPDATE directory SET revision = revision + 1;
END;

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

-- A new call that is due rings for itself, in the transaction that makes it known.
CREATE TRIGGER ring_for_new AFTER INSERT ON calls WHEN NEW.due_at <= NEW.arrived_at BEGIN
    INSERT INTO task (queue, data)
    VALUES ('calllogd', CAST(json_object('account_id', NEW.account_id, 'call_id', NEW.call_id) AS BLOB));
END;

-- Calls with the message that was the first to tell of them. Whoever writes here writes a call, its journal and its
-- ring with one statement; a call that is known already is refused.
CREATE VIEW arrivals AS
SELECT
    account_id, call_id, arrived_at, direction, phone, person_weight, extension, user_id, started_at, status, duration,
    legs, heard_at, widget, result, recording, recording_url, recording_type, appeared_at, revision, due_at, who, what, body
FROM calls JOIN journal ON journal.call = calls.id AND journal.line = 1;

CREATE TRIGGER arrive INSTEAD OF INSERT ON arrivals BEGIN
    INSERT INTO calls (
        account_id, call_id, arrived_at, direction, phone, person_weight, extension, user_id, started_at, status,
        duration, legs, heard_at, widget, result, recording, recording_url, recording_type, appeared_at, revision, due_at
    ) VALUES (
        NEW.account_id, NEW.call_id, NEW.arrived_at, NEW.direction, NEW.phone, NEW.person_weight, NEW.extension,
        NEW.user_id, NEW.started_at, NEW.status, NEW.duration, NEW.legs, NEW.heard_at, NEW.widget, NEW.result, NEW.recording,
        NEW.recording_url, NEW.recording_type, NEW.appeared_at, NEW.revision, NEW.due_at
    );
    INSERT INTO journal (call, line, at, who, what, outcome, body, last_at)
    VALUES (last_insert_rowid(), 1, NEW.arrived_at, NEW.who, NEW.what, 'new call', NEW.body, NEW.arrived_at);
END;
