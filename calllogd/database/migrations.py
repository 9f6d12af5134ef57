"""Numbered changes of the ledger's schema, each recorded in the file in the transaction that makes it."""

import sqlite3
import time
from collections.abc import Iterator
from importlib.resources import files

from calllogd.errors import ConfigError

_RECORD = (
    "CREATE TABLE IF NOT EXISTS migrations"
    " (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at REAL NOT NULL) STRICT"
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; does nothing when it is.

    Safe with several processes opening a new file at once. Raises ConfigError when the file was written by
    a newer calllogd, whose rows this one could misread.
    """
    known = dict(_scripts())
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_RECORD)
        applied = {number for (number,) in connection.execute("SELECT number FROM migrations")}
        _refuse_newer(applied, {int(name[:4]) for name in known})
        for name, script in sorted(known.items()):
            if int(name[:4]) not in applied:
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(
                    "INSERT INTO migrations VALUES (?, ?, ?)", (int(name[:4]), name, time.time())
                )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _refuse_newer(applied: set[int], known: set[int]) -> None:
    if newer := applied - known:
        raise ConfigError(
            f"database.url: the ledger has schema {max(newer)}, this calllogd knows them up to {max(known)};"
            " install the version that wrote it, or a newer one"
        )


def _scripts() -> Iterator[tuple[str, str]]:
    for file in files("calllogd.database.sql").iterdir():
        if file.name.endswith(".sql"):
            yield file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")


def _statements(script: str) -> Iterator[str]:
    """Return the statements of a script one by one: executescript() would commit in between."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
