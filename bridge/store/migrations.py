"""The schema, as steps that only go forward; `PRAGMA user_version` counts them.

A release may be rolled back while its data stays, so an older bridge can meet a newer file. Steps
are therefore additive (new tables, new columns with a default): an older bridge keeps working on
what it knows. A step that cannot be additive raises `READABLE_FROM` to its own version, and older
bridges then refuse the file instead of misreading it.
"""

import sqlite3

READABLE_FROM = 1  # the oldest schema version whose code may use a file that these steps made

_FIRST = """
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;

CREATE TABLE diagnostics (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE connection_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE orders (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    order_ref TEXT NOT NULL UNIQUE,
    key_digest TEXT NOT NULL,
    role TEXT NOT NULL,
    group_id TEXT NOT NULL,
    parent_id TEXT,
    api_key_id TEXT NOT NULL,
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    contract TEXT NOT NULL,
    terms TEXT NOT NULL,
    pending TEXT,
    state TEXT NOT NULL,
    status TEXT NOT NULL,
    client_id INTEGER NOT NULL,
    broker_order_id INTEGER NOT NULL,
    perm_id INTEGER NOT NULL DEFAULT 0,
    filled REAL NOT NULL DEFAULT 0,
    average_price REAL,
    notional REAL NOT NULL,
    reject_code INTEGER,
    reject_text TEXT,
    warning TEXT,
    created_at INTEGER NOT NULL,
    sent_at INTEGER,
    acknowledged_at INTEGER,
    ended_at INTEGER,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX orders_by_state ON orders (state);
CREATE INDEX orders_by_key ON orders (key_digest);
CREATE INDEX orders_by_broker_order ON orders (client_id, broker_order_id);
CREATE INDEX orders_by_perm ON orders (perm_id);
CREATE INDEX orders_by_creation ON orders (created_at);
CREATE INDEX orders_by_update ON orders (updated_at);

CREATE TABLE order_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id TEXT NOT NULL REFERENCES orders (id),
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX order_events_by_order ON order_events (order_id, sequence);

CREATE TABLE idempotency (
    key_digest TEXT PRIMARY KEY,
    body_digest TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    answered_at INTEGER,
    accepted INTEGER,
    answer BLOB
) STRICT, WITHOUT ROWID;

CREATE TABLE executions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    stem TEXT NOT NULL UNIQUE,
    exec_id TEXT NOT NULL UNIQUE,
    broker_exec_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    change INTEGER NOT NULL UNIQUE,
    at INTEGER NOT NULL,
    account TEXT NOT NULL,
    symbol TEXT NOT NULL,
    sec_type TEXT NOT NULL,
    con_id INTEGER NOT NULL,
    side TEXT NOT NULL,
    quantity REAL NOT NULL,
    price REAL NOT NULL,
    currency TEXT NOT NULL,
    order_id TEXT,
    broker_order_id INTEGER NOT NULL,
    client_id INTEGER NOT NULL,
    perm_id INTEGER NOT NULL,
    order_ref TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX executions_by_time ON executions (at, sequence);
CREATE INDEX executions_by_symbol ON executions (symbol, at, sequence);
CREATE INDEX executions_by_account ON executions (account, at, sequence);
CREATE INDEX executions_by_order ON executions (order_id);
CREATE INDEX executions_by_perm ON executions (perm_id);

CREATE TABLE commissions (
    stem TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,
    commission REAL NOT NULL,
    currency TEXT NOT NULL,
    realized_pnl REAL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    api_key_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL,
    result TEXT NOT NULL
) STRICT;
CREATE TRIGGER audit_keeps_what_it_has BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_loses_nothing BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""

_CONNECTION_SETTINGS = """
CREATE TABLE connection_profiles (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL,
    secrets BLOB,
    active INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    revision INTEGER NOT NULL DEFAULT 1,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_active_profile ON connection_profiles (active) WHERE active = 1;

CREATE TABLE portal_certificates (
    origin TEXT PRIMARY KEY,
    trust TEXT NOT NULL,
    certificate TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    pinned_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_ORDERED_MONEY = """
CREATE TABLE order_money (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    order_id TEXT NOT NULL REFERENCES orders (id),
    at INTEGER NOT NULL,
    added REAL NOT NULL
) STRICT;
CREATE INDEX order_money_by_time ON order_money (at);
"""

# Bound keys have a table of their own: an older bridge, which would not heed their bounds, does not
# know them at all. It writes audit entries without a chain; the next chained one covers them too.
_BOUND_KEYS_AND_AUDIT_CHAIN = """
CREATE TABLE bound_api_keys (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    scope TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    bounds TEXT NOT NULL
) STRICT;

ALTER TABLE audit ADD COLUMN chain TEXT NOT NULL DEFAULT '';
"""

_QUARANTINE = """
CREATE TABLE quarantine (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    cause TEXT NOT NULL,
    content TEXT NOT NULL,
    times INTEGER NOT NULL DEFAULT 1,
    mended_at INTEGER,
    UNIQUE (kind, name)
) STRICT;
"""

_POSITION_RULES = """
CREATE TABLE rule_sets (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    api_key_id TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT;

CREATE TABLE rule_memories (
    rule TEXT NOT NULL,
    holding TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (rule, holding)
) STRICT, WITHOUT ROWID;

CREATE TABLE rule_closes (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    ended INTEGER NOT NULL,
    content TEXT NOT NULL
) STRICT;

CREATE INDEX rule_closes_ended ON rule_closes (ended);

CREATE TABLE rule_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    rule TEXT NOT NULL,
    content TEXT NOT NULL
) STRICT;

CREATE INDEX rule_events_at ON rule_events (at);
"""

# Without it every answer to an order goes through all orders that there ever were.
_ORDERS_BY_GROUP = """
CREATE INDEX orders_by_group ON orders (group_id);
"""

_ORDER_LABELS = """
ALTER TABLE orders ADD COLUMN label TEXT NOT NULL DEFAULT '';
"""

# A step that was ever released never changes (a test keeps its checksum): what comes later is a
# step of its own.
STEPS: tuple[str, ...] = (
    _FIRST,
    _CONNECTION_SETTINGS,
    _ORDERED_MONEY,
    _BOUND_KEYS_AND_AUDIT_CHAIN,
    _QUARANTINE,
    _POSITION_RULES,
    _ORDERS_BY_GROUP,
    _ORDER_LABELS,
)
NEWEST = len(STEPS)


def version(connection: sqlite3.Connection) -> int:
    """How many steps this file has seen."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def oldest_reader(connection: sqlite3.Connection) -> int:
    """The oldest schema version whose code may use this file."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'readable_from'").fetchone()
    return 1 if row is None else int(row[0])


def advance(connection: sqlite3.Connection) -> None:
    """Takes every missing step, each in a transaction of its own.

    A crash leaves a file between two steps, never inside one.
    """
    for step in range(version(connection), NEWEST):
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{STEPS[step]}\n"
            f"INSERT INTO meta VALUES ('readable_from', '{READABLE_FROM}')"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value;\n"
            f"PRAGMA user_version = {step + 1};\nCOMMIT;"
        )
