"""Secrets in the ledger are sealed: who has the database file alone can read none of them.

The key is configured (database.key, for instance a systemd credential), or stands in a file beside the ledger
that only its owner may read. Several keys may be in force: the first seals, all open, so that they can be
changed while daemons run.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from calllogd.errors import ConfigError

KEYS_KEPT = 2
"""That in force, and the one before it: a daemon that has not heard of the new one may seal with it yet."""


class Vault:
    """Seals secrets, each under a name of its own: what was sealed for one purpose opens for no other.

    `keys` are the configured ones; without them they come from `file`.
    """

    def __init__(self, keys: Sequence[str] | None, file: Path) -> None:
        self.file = file
        self._configured = keys
        self._fernet: MultiFernet | None = None

    @property
    def own_file(self) -> bool:
        """Whether the keys stand in calllogd's own file, and not in the configuration."""
        return self._configured is None

    @property
    def where(self) -> str:
        """Where the keys stand, in words."""
        return str(self.file) if self.own_file else "database.key"

    async def open(self, *, fresh: bool) -> None:
        """Read the keys; with `fresh`, make the file if it is not there. Raises ConfigError."""
        await asyncio.to_thread(self._open, fresh)

    def seal(self, name: str, secret: str) -> str:
        """Return the secret as it may be written to the ledger."""
        return self._keys().encrypt(json.dumps([name, secret]).encode()).decode()

    def unseal(self, name: str, sealed: str) -> str:
        """Return the secret; raises ConfigError when no key opens it, or it was sealed under another name.

        May read the file again: it is for the ledger's thread, not for the loop.
        """
        for again in (False, True):
            try:
                found, secret = json.loads(self._keys(again=again).decrypt(sealed.encode()))
            except InvalidToken:
                continue
            if found == name:
                return str(secret)
            break
        raise ConfigError(
            f"{name} in the ledger cannot be opened with the key of {self.where}: bring back the key it was"
            " sealed with, or give the secrets up by `calllogd rotate-key --lost`"
        )

    async def add_key(self, *, keep: bool = True) -> None:
        """Put a new key in front of those in the file, of which the last but one goes; raises ConfigError.

        Without `keep` it is the only one.
        """
        await asyncio.to_thread(self._add_key, keep)

    def _open(self, fresh: bool) -> None:
        if self.own_file and fresh and not self.file.exists():
            # Another process may be first: then its key counts.
            with contextlib.suppress(FileExistsError):
                _write(self.file, [Fernet.generate_key().decode()], exclusive=True)
        self._keys(again=True)

    def _add_key(self, keep: bool) -> None:
        kept = self._in_file() if keep else []
        _write(self.file, [Fernet.generate_key().decode(), *kept][:KEYS_KEPT], exclusive=False)
        self._keys(again=True)

    def _keys(self, *, again: bool = False) -> MultiFernet:
        """Return the keys, read `again` when another process may have changed them."""
        if self._fernet is None or again:
            keys = self._in_file() if self._configured is None else self._configured
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        return self._fernet

    def _in_file(self) -> Sequence[str]:
        try:
            keys = self.file.read_text(encoding="ascii").split()
            if self.file.stat().st_mode & 0o077:
                raise ConfigError(f"{self.file}: others may read this key: chmod 600 {self.file}")
            for key in keys:
                Fernet(key)
        except FileNotFoundError:
            raise ConfigError(
                f"{self.file}: the key is not there that the ledger's secrets are sealed with: bring it back,"
                " or give the secrets up by `calllogd rotate-key --lost`"
            ) from None
        except OSError as error:
            raise ConfigError(f"{self.file}: cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigError(f"{self.file}: is no key of calllogd's") from error
        if not keys:
            raise ConfigError(f"{self.file}: is empty and should hold a key")
        return keys


def _write(file: Path, keys: Sequence[str], *, exclusive: bool) -> None:
    """Write the file in one step, for its owner alone, and see it on disk; raises ConfigError."""
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as out:
            _give_to_owner(out.fileno(), file)
            out.write("".join(f"{key}\n" for key in keys))
            out.flush()
            os.fsync(out.fileno())
        try:
            if exclusive:
                os.link(draft, file)
            else:
                os.replace(draft, file)
        finally:
            draft.unlink(missing_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error


def _give_to_owner(handle: int, file: Path) -> None:
    """Give the file to whom the old one, or the folder, belongs: root may be at work for a service's user."""
    if os.geteuid() == 0:
        owner = (file if file.exists() else file.parent).stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)
