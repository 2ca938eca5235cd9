"""A restic repository with one stack's backups. Runs on the host: standard library, Python 3.9.

A folder of the host's (a mounted disk), or a folder of another machine by SFTP. A snapshot is the
tree that `host.backup` gathers, tagged with its target: a repository has the backups of one target
and is refused to another, so that neither old ones are removed for the other nor the wrong stack
is put back. The password lies in a file; no command has it among its arguments or variables.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from infrastructure.apply.protocol import documents

TAG = "gangway"
LIST = ("snapshots", "--json", "--tag", TAG)
WITHIN = 3600.0
"""Seconds for one of restic's commands."""
ALONE_WITHIN = 60.0
_NO_SESSION = "unable to start the sftp session"
_TARGET = re.compile(r"target=(.+)")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Repository:
    """Restic's commands on one repository.

    Args:
        to: an absolute folder, or `sftp://[user@]host[:port]/folder`.
        password: a file with its password.
        key: a private key for SFTP; None: as root's own `ssh` finds one.
        known_hosts: the other machine's key; None: root's own file.
    """

    def __init__(
        self, to: str, password: Path, key: Path | None = None, known_hosts: Path | None = None
    ) -> None:
        self._to = to
        self._password = password
        self._key, self._known_hosts = key, known_hosts

    def prepare(self, target: str, *, make: bool = True) -> None:
        """HostFailure when it is another's or not to be had; `make`: one that is not there is made.

        What goes on by itself makes none: where a disk is not mounted, its empty folder lies on the
        disk that the backups are for.
        """
        done = self._run(*LIST, check=False)
        if done.returncode == 0:
            others = sorted({of(one) for one in listed(done.stdout)} - {target})
            if others:
                raise HostFailure(
                    "repository-of-another",
                    f"{self._to} has the backups of target {others[0]}",
                    "give each target a folder of its own",
                )
            return
        if "Is there a repository" not in done.stderr:
            raise self._failed(done.stderr)
        if not make:
            gone = f"there is no repository at {self._to} any more: is its disk mounted?"
            hint = "if it is lost, the same `backup --to … --every …` once more makes a new one"
            raise HostFailure("no-backup", gone, hint)
        if not self._to.startswith("sftp:"):
            Path(self._to).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._run("init")

    def add(self, tree: Path, target: str) -> str:
        """Stores the tree as a new snapshot; its id."""
        self._run("unlock")  # only what a command that died has left
        marks = ("--host", TAG, "--tag", f"{TAG},target={target}")
        done = self._run("backup", "--json", *marks, ".", cwd=tree)
        for line in reversed(done.stdout.splitlines()):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return str(json.loads(line)["snapshot_id"])
        raise HostFailure("repository", "restic did not say what it stored")

    def keep(self, count: int, target: str) -> None:
        """Removes all of the target's but the newest `count`."""
        marks = ("--tag", f"{TAG},target={target}", "--group-by", "host,tags")
        self._run("forget", *marks, "--keep-last", str(count), "--prune")

    def snapshots(self) -> list[dict[str, Any]]:
        """Of gangway's, oldest first."""
        return listed(self._run(*LIST).stdout)

    def fetch(self, snapshot: str, to: Path) -> None:
        """Writes a snapshot's tree to a folder; `latest`, or an id or its beginning."""
        found = self.snapshots()
        if not found:
            raise HostFailure("no-backup", f"there is no backup of gangway's in {self._to}")
        if snapshot != "latest":
            found = [one for one in found if str(one["id"]).startswith(snapshot)]
        if not found or (snapshot != "latest" and len(found) > 1):
            last = ", ".join(str(one["short_id"]) for one in self.snapshots()[-5:])
            raise HostFailure("no-backup", f"there is no backup '{snapshot}'", f"there are {last}")
        self._run("restore", str(found[-1]["id"]), "--target", str(to))

    # ------------------------------------------------------------------------------------------

    def _ssh(self) -> list[str]:
        """What begins a session of SFTP with the other machine."""
        user, host, port, _ = parts(self._to)
        ssh = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=20"]
        ssh += ["-oServerAliveInterval=30"]
        ssh += [f"-oUserKnownHostsFile={self._known_hosts}"] if self._known_hosts else []
        ssh += ["-oIdentitiesOnly=yes", "-i", str(self._key)] if self._key else []
        ssh += ["-p", port] if port else []
        return [*ssh, f"{user}@{host}" if user else host, "-s", "sftp"]

    def _command(self, *arguments: str) -> list[str]:
        to, options = self._to, []
        if to.startswith("sftp://"):
            user, host, _, folder = parts(to)
            options = ["-o", "sftp.command=" + shlex.join(self._ssh())]
            to = f"sftp:{user}@{host}:{folder}" if user else f"sftp:{host}:{folder}"
        return [
            *("restic", "--no-cache", "--quiet", "--repo", to),
            *("--password-file", str(self._password), *options, *arguments),
        ]

    def _run(
        self, *arguments: str, cwd: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        try:
            done = subprocess.run(
                self._command(*arguments),
                cwd=cwd,
                # Small and slow: it runs beside a gateway on a machine of 1 GB.
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=WITHIN,
                check=False,
            )
        except FileNotFoundError:
            raise HostFailure(
                "restic-missing", "there is no restic on the host", "apt-get install restic"
            ) from None
        except subprocess.TimeoutExpired:
            raise HostFailure("repository", f"{self._to} does not answer in time") from None
        if check and done.returncode != 0:
            raise self._failed(done.stderr)
        return done

    def _refused(self) -> str:
        """What `ssh` says when it is asked alone: restic passes that on only if it is in time."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            return subprocess.run(
                self._ssh(),
                env=_environment(),
                stdin=subprocess.DEVNULL,  # a session that begins ends at once
                capture_output=True,
                text=True,
                errors="replace",
                timeout=ALONE_WITHIN,
                check=False,
            ).stderr
        return ""

    def _failed(self, said: str) -> HostFailure:
        if _NO_SESSION in said:
            said = f"{self._refused()}\n{said}"
        if "wrong password" in said:
            return HostFailure(
                "repository-password",
                f"the password does not open {self._to}",
                "--passphrase-file FILE with the one that it was made with",
            )
        if "Is there a repository" in said:
            hint = "the address as it was given to `backup --to`"
            return HostFailure("no-backup", f"there is no repository at {self._to}", hint)
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if any("Host key verification failed" in line for line in lines):
            hint = "the host has to know the other machine's key: --sftp-known-hosts FILE"
        elif any("Permission denied (" in line for line in lines):
            hint = "the host needs a key that opens the other machine: --sftp-key FILE"
        else:
            hint = "is it mounted, can the host reach it?"
        fatal = [line[7:] for line in lines if line.startswith("Fatal: ")]
        reason = (fatal or lines or ["restic failed"])[-1]
        return HostFailure("repository", f"{self._to}: {reason}", hint, "\n".join(lines[-10:]))


def _environment() -> dict[str, str]:
    return {"PATH": _PATH, "HOME": str(Path.home()), "LC_ALL": "C", "GOGC": "20"}


def listed(text: str) -> list[dict[str, Any]]:
    """Restic's list of snapshots, oldest first."""
    try:
        found: list[dict[str, Any]] = json.loads(text) or []
        return sorted(found, key=lambda one: str(one["time"]))
    except (ValueError, KeyError, TypeError):
        raise HostFailure("repository", "restic's list of backups cannot be read") from None


def of(snapshot: dict[str, Any]) -> str:
    """The target that a snapshot is of."""
    for tag in snapshot.get("tags") or ():
        if match := _TARGET.fullmatch(str(tag)):
            return match[1]
    return ""


def parts(address: str) -> tuple[str, str, str, str]:
    """User, host, port and folder of `sftp://[user@]host[:port]/folder`; HostFailure if it is none.

    What `ssh` would take for an option is none.
    """
    hint = "such as sftp://me@nas.example:2222/srv/backups"
    if re.match(r"sftp://[^@/]*:[^/]*@", address):
        said = "a password does not belong in an address: a key opens the other machine"
        raise HostFailure("repository-address", said, "--sftp-key FILE")
    name = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
    match = re.fullmatch(
        rf"sftp://(?:({name})@)?([A-Za-z0-9_][A-Za-z0-9_.-]*)(?::([0-9]{{1,5}}))?"
        r"(/[^\x00-\x1f\x7f]+)",
        address,
    )
    if match is None or ".." in match[4].split("/") or not match[4].strip("/"):
        raise HostFailure("repository-address", f"'{address}' is not sftp://user@host/folder", hint)
    if match[3] and not 1 <= int(match[3]) <= 65535:
        raise HostFailure("repository-address", f"there is no port {match[3]}", hint)
    return match[1] or "", match[2], match[3] or "", match[4]


@contextlib.contextmanager
def opened(given: documents.RepositoryPart, scratch: Path) -> Any:
    """A repository with its secrets in files of `scratch`, for as long as it is used."""
    folder = scratch / "repository"
    folder.mkdir(mode=0o700)
    try:
        yield stored(given, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


FILES = {"password": "password", "key": "key", "known_hosts": "known_hosts"}


def stored(given: documents.RepositoryPart, folder: Path) -> Repository:
    """Writes its secrets to files of their reader alone in a folder, and gives it."""
    for name, file in FILES.items():
        text: str = getattr(given, name)
        (folder / file).unlink(missing_ok=True)
        if text:
            descriptor = os.open(folder / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
            with os.fdopen(descriptor, "w", encoding="utf-8") as to:
                to.write(text.rstrip("\n") + "\n")
                to.flush()
                os.fsync(to.fileno())
    return kept(given.to, folder)


def kept(to: str, folder: Path) -> Repository:
    """A repository whose secrets lie in a folder already."""
    optional = [folder / FILES[name] for name in ("key", "known_hosts")]
    found = [path if path.exists() else None for path in optional]
    return Repository(to, folder / FILES["password"], *found)


def fetch(given: documents.RepositoryPart, snapshot: str, scratch: Path, to: Path) -> None:
    """Writes a snapshot's tree to a folder."""
    with opened(given, scratch) as repository:
        repository.fetch(snapshot, to)
