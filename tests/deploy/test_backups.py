"""`backup` and `restore` as commands: what is refused before any host is asked; what is shown."""

from __future__ import annotations

import base64
import errno
import os
from typing import TYPE_CHECKING, Any

import pyrage
import pytest

from infrastructure.apply.protocol.documents import BackupFacts
from infrastructure.apply.protocol.encoding import read
from infrastructure.apply.protocol.events import Facts
from infrastructure.cli import main
from infrastructure.cli.backups import checked_address, interval, passphrase, repository
from infrastructure.cli.commands.backup import opened
from infrastructure.cli.settings import Settings
from infrastructure.cli.status_view import backup_words
from infrastructure.config import secrets
from infrastructure.doctor.evidence import Evidence
from infrastructure.doctor.host_checks import backups
from infrastructure.errors import UsageError
from infrastructure.files import write_new
from tests.deploy.operator.test_doctor import GOOD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("daily", 86_400), ("hourly", 3_600), ("12h", 43_200), ("2d", 172_800), ("off", 0)],
)
def test_intervals(text: str, seconds: float) -> None:
    assert interval(text) == seconds


@pytest.mark.parametrize("text", ["", "0h", "32d", "5m", "-1h", "daily ", "1e3h"])
def test_what_is_no_interval(text: str) -> None:
    with pytest.raises(UsageError):
        interval(text)


@pytest.mark.parametrize("text", ["/mnt/backups", "sftp://me@nas/b", "sftp://10.0.0.1:2222/a b"])
def test_places(text: str) -> None:
    assert checked_address(text) == text


@pytest.mark.parametrize(
    "text", ["backups", "/mnt/../etc", "s3:bucket", "sftp://-oX/f", "/a\nb", "sftp://nas", "//"]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UsageError):
        checked_address(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backup"], "FILE, or --to with a repository"),
        (["backup", "a", "--to", "/b"], "FILE, or --to with a repository"),
        (["backup", "a", "--every", "daily"], "--every needs --to"),
        (["backup", "--to", "/b", "--every", "daily"], "the sandbox has no schedule"),
        (["backup", "--to", "/b", "--every", "5m"], "is no interval"),
        (["backup", "--to", "b"], "is no place for backups"),
        (["backup", "--to", "/b", "--sftp-key", "k"], "are for sftp:// addresses"),
        (["backup", "--to", "/b", "--encrypt-to", "age1x"], "always encrypted"),
        (["backup", "a", "--every", "off"], "FILE does nothing with --every off"),
        (["backup", "--every", "off", "--to", "/b"], "--to does nothing with --every off"),
        (["backup", "a", "--keep", "3"], "--keep does nothing without --to"),
        (["backup", "a", "--sftp-key", "k"], "--sftp-key does nothing without --to"),
        (["backup", "a", "--encrypt-to", "age1x"], "is no public key of age"),
        (["backup", "a", "--encrypt-to", ""], "what follows --encrypt-to is empty"),
        (["restore", "a", "--snapshot", "1"], "--snapshot does nothing without --from"),
        (["restore", "--from", "/b", "--identity", "i"], "--identity does nothing with --from"),
        (["restore", "a", "--identity", "i", "--passphrase-file", "p"], "one of the two"),
        (["restore"], "FILE, or --from with a repository"),
        (["restore", "--from", "/b"], "backup-password"),
        (["upgrade", "bridge"], "is built here"),
        (["upgrade", "--weekly"], "the sandbox has no images"),
    ],
)
def test_refused_before_any_host_is_asked(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "sandbox"))
    with pytest.raises(SystemExit) as ended:
        main(words)
    told = capfd.readouterr().err
    assert (ended.value.code, said in told, "Traceback" in told) == (2, True, False), told


def test_the_password_is_made_up_once_and_kept(make: Callable[..., Target]) -> None:
    target, current = make(), Settings()
    first = repository(current, target, "/mnt/b", None, None, None, make=True)
    again = repository(current, target, "/mnt/b", None, None, None, make=False)
    assert first.password == again.password
    assert len(first.password) >= 32
    kept = secrets.folder(target) / "backup-password"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert first.password not in repr(first)


def found(**more: Any) -> BackupFacts:
    values: dict[str, Any] = {
        "to": "/mnt/b",
        "every": 43_200.0,
        "keep": 14,
        "since": 1_750_000_000.0,
        "succeededAt": 1_750_000_000.0,
        "snapshot": "abc",
        "failedAt": None,
        "failure": None,
    }
    values.update(more)
    return read(BackupFacts, values)


@pytest.mark.parametrize(
    ("hours", "more", "state"),
    [
        (1, {}, "ok"),
        (1, {"succeededAt": None}, "ok"),
        (23, {"failedAt": 1_750_003_600.0, "failure": "no disk"}, "warn"),
        (25, {}, "fail"),
        (25, {"succeededAt": None}, "fail"),
        (-24 * 365, {}, "fail"),
    ],
)
def test_doctor_says_how_the_schedule_goes(hours: int, more: dict[str, Any], state: str) -> None:
    facts = Facts(**GOOD)
    facts.backup = found(**more)
    facts.host = {**facts.host, "time": 1_750_000_000.0 + hours * 3_600}
    (line,) = backups(Evidence(facts=facts))
    assert line.state == state
    assert ("no disk" in line.text) == (state == "warn")


def test_status_says_when_the_last_one_was() -> None:
    assert backup_words(found()) == "last 2025-06-15 15:06Z, every 12 hours to /mnt/b"
    failed = backup_words(found(succeededAt=None, failedAt=1_750_003_600.0, failure="no disk"))
    assert failed == "none yet, every 12 hours to /mnt/b; failed 2025-06-15 16:06Z: no disk"


def test_a_backup_that_does_not_fit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one would be taken for a whole, and its name be taken."""
    file = tmp_path / "gangway.backup"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_room)
        with pytest.raises(UsageError, match="No space left"):
            write_new(file, b"whole")
    assert not file.exists()
    write_new(file, b"whole")
    assert file.read_bytes() == b"whole"
    with pytest.raises(UsageError, match="is there already"):
        write_new(file, b"another")
    assert file.read_bytes() == b"whole"


def no_room(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


AGE_KEY = str(pyrage.x25519.Identity.generate())


@pytest.fixture
def kept_files(tmp_path: Path) -> dict[str, Path]:
    """Backups and keys, good and bad, by name."""
    key = pyrage.x25519.Identity.from_str(AGE_KEY).to_public()
    sealed = pyrage.encrypt(b"the backup", [key])
    body = base64.encodebytes(sealed).decode()
    armoured = f"-----BEGIN AGE ENCRYPTED FILE-----\n{body}-----END AGE ENCRYPTED FILE-----\n"
    contents = {
        "plain": b"the backup",
        "sealed": sealed,
        "armoured": armoured.encode(),
        "half": sealed[: len(sealed) - 8],
        "half armoured": armoured.encode()[: len(armoured) // 2],
        "key": f"# created: today\n{AGE_KEY}\n".encode(),
        "another": str(pyrage.x25519.Identity.generate()).encode(),
        "public": str(key).encode(),
        "broken": b"AGE-SECRET-KEY-1XXXX\n",
        "empty": b"",
        "bytes": bytes(range(256)),
        "nul": b"long enough\0\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    return {name: tmp_path / name for name in (*contents, "folder", "missing")}


@pytest.mark.parametrize("file", ["sealed", "armoured", "plain"])
def test_a_backup_is_opened(kept_files: dict[str, Path], file: str) -> None:
    """`age --armor` writes text, and mail and clouds keep it better."""
    assert opened(kept_files[file], kept_files["key"], None) == b"the backup"


@pytest.mark.parametrize(
    ("file", "key", "message"),
    [
        ("sealed", None, "is encrypted"),
        ("armoured", None, "is encrypted"),
        ("sealed", "another", "cannot be decrypted with that"),
        ("half", "key", "cannot be decrypted with that"),
        ("half armoured", "key", "is not whole|cannot be decrypted"),
        ("sealed", "public", "has no secret key of age"),
        ("sealed", "broken", "has no secret key of age"),
        ("sealed", "empty", "has no secret key of age"),
        ("sealed", "bytes", "cannot read .*bytes: it is no UTF-8 text"),
        ("sealed", "folder", "cannot read .*folder: Is a directory"),
        ("sealed", "missing", "cannot read .*missing: No such file"),
        ("folder", "key", "cannot read .*folder: Is a directory"),
    ],
)
def test_what_is_wrong_with_a_backup_or_its_key_is_said(
    kept_files: dict[str, Path], file: str, key: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        opened(kept_files[file], kept_files[key] if key else None, None)
    assert refused.value.hint


@pytest.mark.parametrize("file", ["empty", "nul", "bytes", "folder", "missing"])
def test_a_passphrase_that_is_none(kept_files: dict[str, Path], file: str) -> None:
    with pytest.raises(UsageError) as refused:
        passphrase(kept_files[file])
    assert refused.value.hint


@pytest.mark.parametrize(
    "text", ["sftp://h:0/x", "sftp://h:70000/x", "sftp://h/../x", "sftp://h//"]
)
def test_what_is_no_sftp_address(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        checked_address(text)
    assert refused.value.hint


@pytest.mark.parametrize("text", ["sftp://me:s3cr3t@nas/b", "rest:https://me:s3cr3t@nas/b"])
def test_a_password_in_an_address_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        checked_address(text)
    assert "s3cr3t" not in refused.value.message + refused.value.hint
