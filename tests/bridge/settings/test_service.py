"""Profiles, secrets and keys over a real journal: changes, rotation, and what can rot."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bridge.clock import SystemClock
from bridge.errors import Kind
from bridge.settings.cipher import Cipher, KeyFile, new_key
from bridge.settings.errors import (
    ActiveProfileError,
    DamagedSettingsError,
    InvalidSettingsError,
    KeyFileError,
    SecretsUnreadableError,
    UnknownProfileError,
)
from bridge.settings.repository import Repository, Secrets
from bridge.settings.service import SettingsService
from tests.bridge.settings.conftest import ENVIRONMENT

if TYPE_CHECKING:
    from bridge.settings.profile import Profile
    from bridge.store import Database

PASSWORD = "correct horse battery staple"


class Applied:
    """What was handed out, newest last."""

    def __init__(self, service: SettingsService) -> None:
        self.seen: list[tuple[Profile, Secrets]] = []
        service.on_apply(self)

    async def __call__(self, profile: Profile, secrets: Secrets) -> None:
        self.seen.append((profile, secrets))

    @property
    def last(self) -> tuple[Profile, Secrets]:
        return self.seen[-1]


def edit(database: Database, statement: str, *values: Any) -> None:
    with sqlite3.connect(database.path) as connection:
        connection.execute(statement, values)
    connection.close()


async def reopened(repository: Repository) -> SettingsService:
    """The service of the next process."""
    return SettingsService(repository, ENVIRONMENT, SystemClock())


async def test_without_stored_settings_those_of_the_environment_count(
    service: SettingsService,
) -> None:
    applied = Applied(service)
    await service.start()
    assert applied.last == (ENVIRONMENT, {})
    shown = await service.show()
    assert (shown.source, shown.profile, shown.active) == ("environment", ENVIRONMENT, True)


async def test_the_first_profile_becomes_active_and_is_applied(
    service: SettingsService, repository: Repository
) -> None:
    applied = Applied(service)
    await service.start()
    shown = await service.put("default", {"port": 4001, "readOnly": True}, {})
    assert shown.active
    assert shown.revision == 1
    assert applied.last[0].port == 4001
    assert service.current.read_only
    assert service.current.host == "gateway"  # not said, so as it was
    again = Applied(successor := await reopened(repository))
    await successor.start()
    assert again.last[0] == service.current


async def test_a_change_to_an_inactive_profile_changes_nothing_that_runs(
    service: SettingsService,
) -> None:
    await service.put("default", {}, {})
    await service.put("live", {"port": 4001}, {})
    assert service.current.port == 4003
    assert await service.names() == ("default", "live")
    await service.put("live", {}, {}, active=True)
    assert service.current.port == 4001
    assert not (await service.show("default")).active
    await service.put("live", {}, {}, active=False)
    assert service.current == ENVIRONMENT


async def test_what_is_refused_is_not_stored(service: SettingsService) -> None:
    with pytest.raises(InvalidSettingsError):
        await service.put("default", {"port": 0}, {"portalPassword": PASSWORD})
    assert await service.names() == ()
    with pytest.raises(UnknownProfileError):
        await service.show("nowhere")


async def test_only_profiles_that_are_not_active_can_be_removed(service: SettingsService) -> None:
    await service.put("default", {}, {})
    await service.put("spare", {}, {})
    with pytest.raises(ActiveProfileError):
        await service.remove("default")
    await service.remove("spare")
    assert await service.names() == ("default",)


async def test_secrets_are_sealed_at_rest_and_opened_for_whom_they_concern(
    service: SettingsService,
    database: Database,
    key_file: KeyFile,
    capsys: pytest.CaptureFixture[str],
) -> None:
    applied = Applied(service)
    shown = await service.put("default", {"portalUsername": "me"}, {"portalPassword": PASSWORD})
    assert shown.secrets == ("portalPassword",)
    assert PASSWORD not in repr(shown)
    assert applied.last[1] == {"portalPassword": PASSWORD}
    for file in Path(database.path.parent).iterdir():
        if file.is_file():
            assert PASSWORD.encode() not in file.read_bytes(), file
    assert key_file.exists()
    output = capsys.readouterr()
    assert PASSWORD not in output.out + output.err


async def test_a_secret_stays_until_it_is_replaced_or_removed(service: SettingsService) -> None:
    applied = Applied(service)
    await service.put("default", {}, {"portalPassword": PASSWORD})
    await service.put("default", {"port": 4001}, {})
    assert applied.last[1] == {"portalPassword": PASSWORD}
    await service.put("default", {}, {"portalPassword": "other"})
    assert applied.last[1] == {"portalPassword": "other"}
    await service.put("default", {}, {"portalPassword": None})
    assert applied.last[1] == {}


async def test_a_key_is_only_made_when_there_is_a_secret(
    service: SettingsService, key_file: KeyFile
) -> None:
    await service.put("default", {"port": 4001}, {})
    assert not key_file.exists()


# keys --------------------------------------------------------------------------------------------


async def test_rotation_seals_everything_with_a_new_key_and_forgets_the_old(
    service: SettingsService, repository: Repository, key_file: KeyFile
) -> None:
    await service.put("default", {}, {"portalPassword": PASSWORD})
    await service.put("other", {}, {"portalPassword": "second"})
    old = key_file.read()
    assert await service.rotate_key() == 2
    assert len(key_file.read()) == 1
    assert key_file.read() != old
    applied = Applied(successor := await reopened(repository))
    await successor.start()
    assert applied.last[1] == {"portalPassword": PASSWORD}


async def test_a_crash_in_the_middle_of_a_rotation_loses_nothing(
    service: SettingsService,
    repository: Repository,
    key_file: KeyFile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await service.put("default", {}, {"portalPassword": PASSWORD})

    async def crash(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(repository._database, "write", crash)
        with pytest.raises(RuntimeError):
            await service.rotate_key()
    assert len(key_file.read()) == 2
    applied = Applied(successor := await reopened(repository))
    await successor.start()
    assert applied.last[1] == {"portalPassword": PASSWORD}
    assert await successor.rotate_key() == 1
    assert len(key_file.read()) == 1


async def test_a_rotation_without_secrets_makes_the_key(
    service: SettingsService, key_file: KeyFile
) -> None:
    assert await service.rotate_key() == 0
    assert len(key_file.read()) == 1


async def test_a_wrong_key_is_told_and_loses_nothing(
    service: SettingsService, repository: Repository, key_file: KeyFile
) -> None:
    await service.put("default", {"port": 4001}, {"portalPassword": PASSWORD})
    right = key_file.read()
    key_file.write((new_key(),))
    successor = await reopened(repository)
    applied = Applied(successor)
    await successor.start()
    assert successor.problem is not None
    assert "no key in" in successor.problem
    assert applied.last[0].port == 4001  # what is no secret is still used
    assert (await successor.show()).problem == successor.problem
    assert (await successor.show()).secrets == ("portalPassword",)
    with pytest.raises(SecretsUnreadableError):
        await successor.rotate_key()
    await successor.put("default", {"port": 4002}, {})  # keeps the sealed secret as it is
    key_file.write(right)
    healed = Applied(third := await reopened(repository))
    await third.start()
    assert healed.last[1] == {"portalPassword": PASSWORD}
    assert third.problem is None


async def test_a_lost_key_file_is_told_and_not_replaced(
    service: SettingsService, repository: Repository, key_file: KeyFile
) -> None:
    await service.put("default", {}, {"portalPassword": PASSWORD})
    key_file.path.unlink()
    successor = await reopened(repository)
    await successor.start()
    assert successor.problem is not None
    assert "cannot read the key file" in successor.problem
    with pytest.raises(KeyFileError):
        await successor.rotate_key()
    assert not key_file.exists()


async def test_a_given_key_file_can_hold_the_new_key_first(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "given.key"
    old, new = new_key(), new_key()
    path.write_text(f"{old}\n")
    repository = Repository(database, Cipher(KeyFile(path, given=True)))
    service = SettingsService(repository, ENVIRONMENT, SystemClock())
    await service.put("default", {}, {"portalPassword": PASSWORD})
    path.write_text(f"{new}\n{old}\n")
    assert await service.rotate_key() == 1
    path.write_text(f"{new}\n")
    applied = Applied(service)
    await service.start()
    assert applied.last[1] == {"portalPassword": PASSWORD}


# damage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE connection_profiles SET document = '{broken'",
        """UPDATE connection_profiles SET document = '{"port": "many"}'""",
        "UPDATE connection_profiles SET secrets = x'ff00'",
        """UPDATE connection_profiles SET secrets = CAST('{"portalPassword":"gAAA"}' AS BLOB)""",
    ],
)
async def test_a_damaged_profile_is_told_and_left_as_it_is(
    service: SettingsService, repository: Repository, database: Database, statement: str
) -> None:
    await service.put("default", {"port": 4001}, {"portalPassword": PASSWORD})
    edit(database, statement)
    before = await repository.all()
    successor = await reopened(repository)
    applied = Applied(successor)
    await successor.start()
    assert successor.problem
    assert (need := successor.need()) is not None
    assert successor.problem in need.message
    assert applied.last[1] == {}
    assert (await successor.show()).problem
    assert await repository.all() == before
    await successor.put("default", {"port": 4010}, {"portalPassword": "again"})
    assert (await successor.show()).problem is None
    assert successor.need() is None
    assert applied.last == (successor.current, {"portalPassword": "again"})


async def test_a_damaged_profile_is_the_callers_to_mend(
    service: SettingsService, database: Database
) -> None:
    await service.put("default", {"port": 4001}, {"portalPassword": PASSWORD})
    edit(database, "UPDATE connection_profiles SET secrets = CAST('[]' AS BLOB)")
    with pytest.raises(DamagedSettingsError) as raised:
        await service.put("default", {"port": 4010}, {})
    assert (raised.value.kind, raised.value.code) == (Kind.CONFLICT, "settings-damaged")


@pytest.mark.parametrize("name", ["a\n", "A", "", "x" * 40])
async def test_what_is_no_name_of_a_profile(service: SettingsService, name: str) -> None:
    with pytest.raises(InvalidSettingsError):
        await service.put(name, {}, {})
    assert await service.names() == ()
