"""Profiles in the journal, their secrets sealed; reads and writes of whole profiles."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import datetime

import msgspec

from bridge.settings.cipher import Cipher, Sealed, new_key
from bridge.settings.errors import DamagedSettingsError, UnknownProfileError
from bridge.settings.profile import Profile
from bridge.store import Database, settings
from bridge.store.settings import StoredProfile

Secrets = dict[str, str]


class Repository:
    """The stored profiles.

    Args:
        database: the journal.
        cipher: opens and seals secrets.
    """

    def __init__(self, database: Database, cipher: Cipher) -> None:
        self._database = database
        self._cipher = cipher

    async def all(self) -> list[StoredProfile]:
        """Every profile, by name, still sealed."""
        return await self._database.read(settings.profiles)

    async def get(self, name: str) -> StoredProfile:
        """One profile, still sealed.

        Raises:
            UnknownProfileError: there is none of that name.
        """
        found = await self._database.read(lambda c: settings.profile(c, name))
        if found is None:
            raise UnknownProfileError(f"there is no profile {name!r}")
        return found

    async def active(self) -> StoredProfile | None:
        """The active profile, still sealed."""
        return next((stored for stored in await self.all() if stored.active), None)

    async def open(self, sealed: Sealed) -> Secrets:
        """Secrets by wire name.

        Raises:
            SettingsError: they cannot be opened; they stay as they are.
        """
        return await self._cipher.decrypt(sealed)

    async def seal(self, secrets: Secrets) -> Sealed:
        """Secrets as they are stored."""
        return await self._cipher.encrypt(secrets)

    async def save(
        self,
        name: str,
        profile: Profile,
        sealed: Sealed,
        at: datetime,
        *,
        active: bool | None,
    ) -> None:
        """Stores one profile, and whether it is active (None: as it was), in one transaction."""
        document = msgspec.json.encode(profile).decode()

        def work(connection: sqlite3.Connection) -> None:
            before = settings.profile(connection, name)
            settings.put_profile(connection, name, document, _encoded(sealed), at)
            if active:
                settings.activate_profile(connection, name)
            elif active is False and before is not None and before.active:
                settings.activate_profile(connection, None)

        await self._database.write(work)

    async def remove(self, name: str) -> None:
        await self._database.write(lambda c: settings.remove_profile(c, name))

    async def rotate(self) -> int:
        """Seals every secret with a new key and forgets the old ones; how many were sealed.

        A crash at any point loses nothing: the new key is in the file before a secret is sealed
        with it, and the old ones leave it after the last was. With a key file that is given from
        outside the new key is its first line already, and the file is left alone.

        Raises:
            SettingsError: a secret cannot be opened or the key file not be used; no secret
                changed.
        """
        key_file = self._cipher.key_file
        sealed = {each.name: sealed_of(each) for each in await self.all() if each.secrets}
        keys: tuple[str, ...] = ()
        if sealed or key_file.given or key_file.exists():
            keys = await asyncio.to_thread(key_file.read)
        if not key_file.given:
            keys = (new_key(), *keys)
        rotated = await self._cipher.rotate(keys, _flat(sealed))
        if not key_file.given:
            await asyncio.to_thread(key_file.write, keys)
        await self._database.write(lambda connection: _store_rotated(connection, sealed, rotated))
        if not key_file.given:
            await asyncio.to_thread(key_file.write, keys[:1])
        return len(rotated)


def _flat(sealed: dict[str, Sealed]) -> Sealed:
    return {f"{name}/{field}": t for name, each in sealed.items() for field, t in each.items()}


def _store_rotated(
    connection: sqlite3.Connection, sealed: dict[str, Sealed], rotated: Sealed
) -> None:
    for name, each in sealed.items():
        tokens = {field: rotated[f"{name}/{field}"] for field in each}
        settings.replace_secrets(connection, name, _encoded(tokens) or b"")


def sealed_of(stored: StoredProfile) -> Sealed:
    """The sealed secrets of a stored profile.

    Raises:
        DamagedSettingsError: they are damaged; they stay as they are.
    """
    if not stored.secrets:
        return {}
    try:
        return msgspec.json.decode(stored.secrets, type=Sealed)
    except msgspec.DecodeError:
        raise _damaged(stored.name, "its secrets are not readable") from None


def profile_of(stored: StoredProfile) -> Profile:
    """The document of a stored profile.

    Raises:
        DamagedSettingsError: it is damaged; it stays as it is.
    """
    try:
        return msgspec.json.decode(stored.document, type=Profile)
    except msgspec.DecodeError as error:
        raise _damaged(stored.name, str(error)) from None


def _damaged(name: str, reason: str) -> DamagedSettingsError:
    return DamagedSettingsError(f"the stored profile {name!r} is damaged: {reason}")


def _encoded(sealed: Sealed) -> bytes | None:
    return msgspec.json.encode(sealed) if sealed else None
