"""What `backup --to` and `restore --from` share: a repository's address, secrets and schedule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infrastructure.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from infrastructure.apply.protocol.documents import RepositoryPart
    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target

HOUR, DAY = 3600.0, 86400.0
WORDS = {"hourly": HOUR, "day": DAY, "daily": DAY, "week": 7 * DAY, "weekly": 7 * DAY}
LONGEST = 31 * DAY


def interval(text: str) -> float:
    """Seconds of `daily`, `weekly`, `12h`, `2d`; 0 of `off`.

    Raises:
        UsageError: it is none, or not between an hour and 31 days.
    """
    if text == "off":
        return 0.0
    match = re.fullmatch(r"([0-9]{1,4})([hd])", text)
    if match is None and text not in WORDS:
        raise UsageError(f"--every {text!r} is no interval", hint="daily, weekly, 12h, 2d or off")
    seconds = WORDS.get(text) or int(match[1]) * (HOUR if match[2] == "h" else DAY)  # type: ignore[index]
    if not HOUR <= seconds <= LONGEST:
        raise UsageError(f"--every {text}: at least 1h, at most 31d", hint="such as 12h or daily")
    return seconds


def without(given: Mapping[str, object], where: str) -> None:
    """UsageError for an option that would change nothing; `given`: options, None where not used."""
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} does nothing {where}", hint="leave it out")


def checked_address(text: str) -> str:
    """The address of a repository, as its host will use it.

    Raises:
        UsageError: it is neither an absolute folder nor `sftp://…`.
    """
    from infrastructure.apply.host.repository import parts
    from infrastructure.runtime.base import HostFailure

    if text.startswith("sftp://"):
        try:
            parts(text)
        except HostFailure as failure:
            raise UsageError(failure.message, hint=failure.hint) from None
    elif (
        not re.fullmatch(r"/[^\x00-\x1f\x7f]+", text)
        or ".." in text.split("/")
        or not text.strip("/")
    ):
        hint = "a folder of the host's such as /mnt/backups, or sftp://user@host/folder"
        named = "that" if re.search(r":[^/@]*@", text) else f"'{text}'"  # it may be a password
        raise UsageError(f"{named} is no place for backups", hint=hint)
    return text


def repository(
    current: Settings,
    target: Target,
    to: str,
    passphrase_file: Path | None,
    key: Path | None,
    known_hosts: Path | None,
    *,
    make: bool,
) -> RepositoryPart:
    """A repository with its secrets; `make`: its password is made up when there is none yet.

    Raises:
        UsageError: the address is none, or a secret cannot be read.
    """
    from infrastructure.apply.protocol.documents import RepositoryPart

    address = checked_address(to)
    if (key or known_hosts) and not address.startswith("sftp://"):
        raise UsageError(
            "--sftp-key and --sftp-known-hosts are for sftp:// addresses", hint="leave them out"
        )
    password = _password(current, target, passphrase_file, make=make)
    return RepositoryPart(address, password, _text(key), _text(known_hosts))


def passphrase(file: Path) -> str:
    """The first line of a file; UsageError when it is short or cannot be read."""
    from infrastructure.files import given_text

    line = given_text(file).partition("\n")[0].rstrip("\r")
    if len(line) < 8:
        raise UsageError(
            f"the first line of {file} has fewer than 8 characters",
            hint="openssl rand -base64 32 makes a good one",
        )
    if "\0" in line:
        raise UsageError(f"{file} is no text", hint="a passphrase is a line that can be typed")
    return line


def _password(current: Settings, target: Target, file: Path | None, *, make: bool) -> str:
    from infrastructure.config import secrets
    from infrastructure.config.base import stored

    if file is not None:
        return passphrase(file)
    reference = stored(secrets.BACKUP_PASSWORD)
    path = secrets.path_of(target, reference)
    if make and not path.exists():
        secrets.store(target, secrets.BACKUP_PASSWORD, secrets.new_key(), once=True)
        current.out.say(f"made the password of the backups: {path}")
        current.out.say("keep a copy elsewhere: without it no backup can be opened")
    return secrets.read(target, reference).decode()


def _text(file: Path | None) -> str:
    from infrastructure.files import given_text

    return "" if file is None else given_text(file)
