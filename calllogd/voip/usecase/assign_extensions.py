"""Who has which extension, as an administrator says in the widget."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from calllogd.errors import InputRefused

TABLE_MOST = 1000
EXTENSION_MOST = 64


class ExtensionTables(Protocol):
    """What the administrators said; both raise StorageError."""

    async def table(self, account_id: int) -> Mapping[str, int]:
        """Return the extensions of one account, with the ids of their users."""
        ...

    async def replace(self, account_id: int, table: Mapping[str, int]) -> bool:
        """Put a table in the place of the account's, as a whole; return whether it is another."""
        ...


class AssignExtensionsUseCase:
    """Keeps one table for each account; `fixed` are the extensions that the configuration file sets."""

    def __init__(self, *, tables: ExtensionTables, fixed: Mapping[int, Mapping[str, int]]) -> None:
        self._tables = tables
        self._fixed = fixed

    def fixed(self, account_id: int) -> Mapping[str, int]:
        """Return the extensions that only the configuration file can change, with the ids of their users."""
        return self._fixed.get(account_id, {})

    async def table(self, account_id: int) -> Mapping[str, int]:
        """Return every extension of an account with the id of its user; raises StorageError."""
        return {**await self._tables.table(account_id), **self.fixed(account_id)}

    async def assign(self, account_id: int, wanted: Mapping[str, int], users: Collection[int]) -> None:
        """Make `wanted` the account's table; `users` are those there are.

        Idempotent. Raises InputRefused (`invalid`), and then nothing has changed; StorageError.
        """
        fixed = self.fixed(account_id)
        # The widget gives back what it was shown, the file's extensions included.
        own = {extension: user for extension, user in wanted.items() if fixed.get(extension) != user}
        holders = {user: extension for extension, user in fixed.items()}
        for extension, user in own.items():
            if extension in fixed:
                _refuse(f"extension {extension!r} is user {fixed[extension]}'s, by the configuration file")
            if user not in users:
                _refuse(f"extension {extension!r}: Kommo has no user {user}")
            if user in holders:
                _refuse(f"user {user} should have one extension, not {holders[user]!r} and {extension!r}")
            holders[user] = extension
        await self._tables.replace(account_id, own)


def parse_extensions(body: bytes) -> Mapping[str, int]:
    """Return the table that a body holds; raises InputRefused.

    A key that stands there twice is a mistake: nobody can know which of the two was meant.
    """
    try:
        said = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputRefused("malformed", "the body is not a JSON object in UTF-8") from error
    table = said.get("extensions") if isinstance(said, dict) else None
    if not isinstance(table, dict):
        _refuse("the body should be an object with `extensions`, an object of extensions and user ids")
    if len(table) > TABLE_MOST:
        _refuse(f"extensions has {len(table)} entries; {TABLE_MOST} are taken")
    for extension, user in table.items():
        if not 1 <= len(extension) <= EXTENSION_MOST or not extension.isprintable():
            _refuse(f"extension {extension[:EXTENSION_MOST]!r} should have 1 to 64 printable characters")
        if extension != extension.strip():
            _refuse(f"extension {extension!r} has a space at its end")
        if isinstance(user, bool) or not isinstance(user, int) or not 1 <= user < 2**53:
            _refuse(f"extension {extension!r} should have a Kommo user id")
    return table


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            _refuse(f"{key[:EXTENSION_MOST]!r} stands there twice")
        made[key] = value
    return made


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def _refuse(detail: str) -> NoReturn:
    raise InputRefused("invalid", detail)
