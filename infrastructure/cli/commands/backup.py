"""`backup`, `restore` and `move --to HOST`: the journal and what belongs to it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.cli.app import Wait, Yes, confirm
from infrastructure.cli.commands.halt import HALTING
from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.apply.protocol.events import Restored
    from infrastructure.apply.session import Schedules, Session
    from infrastructure.config import Target
    from infrastructure.config.host import Host
    from infrastructure.errors import WaitingForPerson
    from infrastructure.render.model import Release

KEEP = 14
"""Of the newest backups in a repository, unless said otherwise."""
AGE, ARMOURED = b"age-encryption.org/v1", b"-----BEGIN AGE ENCRYPTED FILE-----"
"""How a file that age has encrypted begins: as it is, or as text."""
DECRYPTS = "--passphrase-file FILE or --identity FILE"
MOST_BYTES = 3 << 30
"""Of a file; the host makes none of more than 2 GiB, age and its armour add a third at most."""
Passphrase = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="Its first line encrypts or decrypts"),
]


SftpKey = Annotated[
    Path | None,
    typer.Option("--sftp-key", metavar="FILE", help="Private key for sftp://; goes to the host"),
]
SftpKnownHosts = Annotated[
    Path | None,
    typer.Option("--sftp-known-hosts", metavar="FILE", help="That machine's key for sftp://"),
]


def backup(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to; - is stdout")
    ] = None,
    encrypt_to: Annotated[
        str | None,
        typer.Option("--encrypt-to", metavar="AGE_KEY", help="A public key of age (age1…)"),
    ] = None,
    passphrase_file: Passphrase = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FOLDER|sftp://…", help="A restic repository that the host reaches"
        ),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(
            "--every", metavar="INTERVAL", help="With --to: daily, weekly, 12h, 2d; off ends it"
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", min=1, max=1000, help=f"With --to: how many of the newest stay [{KEEP}]"
        ),
    ] = None,
    sftp_key: SftpKey = None,
    sftp_known_hosts: SftpKnownHosts = None,
) -> None:
    """Copy journal, settings and certificates, while the stack runs: here, or to a repository.

    The copy is of one moment. Passwords are not in it: they are in this machine's store. A file
    that is there is not overwritten. With --to the host writes it into a restic repository,
    encrypted, and with --every it goes on by itself, by a timer of systemd's.

    \b
    Examples:
      ./deploy.py backup gangway.backup
      ./deploy.py backup gangway.backup.age --encrypt-to age1…
      ./deploy.py backup --to sftp://me@nas/backups/prod --every daily --keep 14
      ./deploy.py backup --every off
    """
    from infrastructure.cli.backups import interval, without
    from infrastructure.errors import UsageError

    current = settings(context)
    seconds = None if every is None else interval(every)
    sftp = {"--sftp-key": sftp_key, "--sftp-known-hosts": sftp_known_hosts}
    secret = {"--passphrase-file": passphrase_file, "--encrypt-to": encrypt_to}
    if seconds == 0.0:
        without({"FILE": file, "--to": to, "--keep": keep, **secret, **sftp}, "with --every off")
        _end_schedule(current)
        return
    if (file is None) == (to is None):
        hint = "./deploy.py backup gangway.backup, or --to /mnt/backups"
        raise UsageError("FILE, or --to with a repository: one of the two", hint=hint)
    if to is None and seconds:
        raise UsageError("--every needs --to", hint="--to FOLDER or --to sftp://user@host/folder")
    if to is None and file is not None:
        without({"--keep": keep, **sftp}, "without --to")
        _to_file(current, file, _sealing(encrypt_to, passphrase_file))
        return
    if encrypt_to is not None:
        raise UsageError("a repository is always encrypted", hint="without --encrypt-to")
    secrets = (passphrase_file, sftp_key, sftp_known_hosts)
    _to_repository(current, to or "", secrets, every=seconds or 0.0, keep=keep or KEEP)


def _to_file(current: Settings, file: Path, seal: Any) -> None:
    from infrastructure.cli.host import connected
    from infrastructure.files import refuse_existing, write_new

    to_stdout = str(file) == "-"
    if not to_stdout:
        refuse_existing(file)
    with connected(current, current.target()) as session:
        session.open()
        content, found = session.backup()
    content = seal(content)
    if to_stdout:
        import sys

        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_new(file, content)
        document = {"file": str(file), "bytes": len(content), "files": found.files}
        current.out.document({**document, "journal": found.journal})
    told = f"{found.files} files, {len(content) / 1e6:.1f} MB"
    current.out.say(f"{told}; the journal: {_rows(found.journal)}")


def _rows(journal: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in journal.items() if name != "schema")


def _to_repository(
    current: Settings,
    to: str,
    secrets: tuple[Path | None, Path | None, Path | None],
    *,
    every: float,
    keep: int,
) -> None:
    from infrastructure.cli.backups import repository
    from infrastructure.cli.host import connected
    from infrastructure.errors import UsageError

    target = current.target()
    if every and target.stack.runtime == "sandbox":
        raise UsageError("the sandbox has no schedule", hint="without --every it is done once")
    part = repository(current, target, to, *secrets, make=True)
    with connected(current, target) as session:
        session.open()
        found = session.keep_backups(part, keep=keep, every=every)
    document = {"repository": to, "snapshot": found.snapshot, "files": found.files}
    schedule = {"every": every or None, "keep": keep}
    current.out.document({**document, "journal": found.journal, **schedule})
    current.out.say(f"{found.files} files, backup {found.snapshot} in {to}")
    current.out.say(f"the journal: {_rows(found.journal)}")
    if every:
        hours = every / 3600
        current.out.say(f"from now on the host does it every {hours:g} hours and keeps {keep}")


def _end_schedule(current: Settings) -> None:
    from infrastructure.cli.host import connected

    with connected(current, current.target()) as session:
        session.open()
        ended = session.end_backups()
    current.out.document({"every": None, "ended": ended})
    told = "no more backups by themselves; those that there are stay"
    current.out.say(told if ended else "there was no schedule")


def restore(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="What `backup` wrote")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", metavar="FILE", help="The secret key of age")
    ] = None,
    passphrase_file: Passphrase = None,
    from_repository: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FOLDER|sftp://…", help="A repository that the host reaches"
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="ID", help="With --from: which of its backups [latest]"),
    ] = None,
    sftp_key: SftpKey = None,
    sftp_known_hosts: SftpKnownHosts = None,
    yes: Yes = False,
) -> None:
    """Put a backup onto the target's host, before its first `up`.

    Refused while a stack runs there, and when the journal there knows more. What lay there goes
    aside. The restored stack starts halted, until you have compared with TWS and said
    `journal accept`.

    \b
    Examples:
      ./deploy.py --target new restore gangway.backup
      ./deploy.py restore --from sftp://me@nas/backups/prod
    """
    from infrastructure.cli.backups import repository, without
    from infrastructure.cli.host import connected
    from infrastructure.errors import UsageError

    current = settings(context)
    if (file is None) == (from_repository is None):
        hint = "./deploy.py restore gangway.backup, or --from /mnt/backups"
        raise UsageError("FILE, or --from with a repository: one of the two", hint=hint)
    if file is not None:
        sftp = {"--sftp-key": sftp_key, "--sftp-known-hosts": sftp_known_hosts}
        without({"--snapshot": snapshot, **sftp}, "without --from")
    else:
        without({"--identity": identity}, "with --from")
    target = current.target()
    part, content = None, b""
    if from_repository is not None:
        secrets = (passphrase_file, sftp_key, sftp_known_hosts)
        part = repository(current, target, from_repository, *secrets, make=False)
    elif file is not None:
        content = opened(file, identity, passphrase_file)
    confirm(current, f"restore onto {target.name}?", yes=yes)
    with connected(current, target) as session:
        session.open(lock=True)
        found = (
            session.restore_from(part, snapshot or "latest") if part else session.restore(content)
        )
    _tell(current, found)
    current.out.say("./deploy.py up starts it, halted; compare with TWS, then journal accept")


def move(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="USER@HOST[:PORT]", help="The new machine")],
    wait: Wait = None,
    yes: Yes = False,
) -> None:
    """Move the stack to another machine: stop, copy, start there; one gateway at a time.

    The new machine must be prepared. Until its stack is up the old one can be started again. It
    starts halted, until you have compared with TWS and said `journal accept`. Afterwards write the
    new host into stack.yaml.

    \b
    Examples:
      ./deploy.py move --to ubuntu@203.0.113.9
    """
    from infrastructure.cli import whereabouts
    from infrastructure.cli.host import connected, decided, held
    from infrastructure.config.secrets import resolve
    from infrastructure.errors import UsageError
    from infrastructure.render import release

    current = settings(context)
    target = current.target()
    if target.stack.runtime == "sandbox":
        raise UsageError("the sandbox does not leave this machine", hint="./deploy.py init")
    there = moved(target, to)
    if _machine(there) == _machine(target):
        raise UsageError("that is where it is", hint="--to another machine")
    confirm(current, f"stop {target.name} and start it on {to}?", yes=yes)
    # Whatever can be known to fail fails before anything is stopped.
    secrets = resolve(there)
    with connected(current, there) as new:
        if new.open().services:
            raise UsageError(f"a stack of this name runs on {to} already")
        there = decided(current, there, new)
    rendered = release(there, secrets)
    # --trust-host-key is for the new machine: the old one's key is known, and is another.
    known = dataclasses.replace(current, trust_host_key=None)
    with held(known, target) as (old, rest):  # its lock, too: nobody starts it meanwhile
        old.open(lock=True)
        current.out.say("a first copy, for trial, while it runs")
        old.backup()
        found, waiting = _carry(current, old, rest, _Moved(there, rendered, to, wait))
        whereabouts.note(there)
        current.out.say(f"it runs on {to} now" if waiting is None else f"it starts on {to} now")
        rest()
        ended = _retired(known, target, old, to)
    _tell(current, found, ended)
    current.out.say(_to_write(target.stack.host, there.stack.host, to))
    for line in _to_begin(ended):
        current.out.say(line)
    current.out.say("it is halted: compare with TWS, then ./deploy.py journal accept")
    if there.stack.workers:
        current.out.say("workers that wait for that are started by ./deploy.py up after it")
    if waiting is not None:
        waiting.reported = True  # the document was printed
        raise waiting


@dataclasses.dataclass(frozen=True)
class _Moved:
    """What is started on the new machine."""

    target: Target
    release: Release
    to: str
    wait: float | None


def _carry(
    current: Settings, old: Session, rest: Callable[[], None], moving: _Moved
) -> tuple[Restored, WaitingForPerson | None]:
    """Stops it here, copies it, starts it there; says how it stands when that fails."""
    stands = "it may be stopped: ./deploy.py status shows it, ./deploy.py up starts it again"
    try:
        old.down(hold=True)
        current.out.say("stopped")
        stands = f"stopped, and nothing was sent to {moving.to}: ./deploy.py up starts it again"
        content, _ = old.backup()
        rest()
        stands = (
            f"stopped here; {moving.to} has no healthy stack. Before ./deploy.py up starts it here"
            f" again, make sure that nothing runs there"
        )
        return _put_and_up(current, moving, content)
    except BaseException:
        current.out.say(stands)
        raise


def _retired(current: Settings, target: Target, old: Session, to: str) -> Schedules | None:
    """The old machine starts nothing any more, also not by itself; None: that is not known.

    The stack serves on the new one, whatever becomes of this. By a second connection, should the
    first not have lasted.
    """
    from infrastructure.cli.host import connected
    from infrastructure.errors import GangwayError, Problem

    try:
        try:
            return _retire(current, old, to)
        except GangwayError:
            with connected(current, target) as again:
                again.open()
                return _retire(current, again, to)
    except GangwayError as error:
        stack = f"gangway-{Path(target.base).name}"
        current.out.warn(
            Problem(
                f"the old machine could not be told: {error.message}",
                hint="do not start it there; it may go on to back up what is old: on it,"
                f" systemctl disable --now {stack}-backup.timer {stack}-images.timer",
            )
        )
        return None


def _retire(current: Settings, session: Session, to: str) -> Schedules:
    from infrastructure.errors import Problem

    session.leave(to)
    left = session.halt("none", f"moved to {to}").mark  # whatever becomes of it, it is halted
    if left not in HALTING:
        text = f"the old stack could not be halted: {left}"
        current.out.warn(Problem(text, hint="do not start it there"))
    return session.end_schedules()


def _to_begin(ended: Schedules | None) -> list[str]:
    """How what the old machine did by itself begins on the new one."""
    lines = []
    if ended is not None and ended.backups is not None:
        hours, keep = ended.backups["every"] / 3600, ended.backups["keep"]
        every = f"{hours / 24:g}d" if hours % 24 == 0 else f"{hours:g}h"
        lines.append("the old machine's backups on a schedule have ended; then begin them here:")
        to = ended.backups["to"]
        key = " [--sftp-key FILE --sftp-known-hosts FILE]" if to.startswith("sftp:") else ""
        lines.append(f"  ./deploy.py backup --to {to} --every {every} --keep {keep}{key}")
    if ended is not None and ended.weekly:
        lines.append("so has its weekly look at images: ./deploy.py upgrade --weekly")
    return lines


def _machine(target: Target) -> tuple[str, int]:
    """Where it is, however a person logs in there."""
    from infrastructure.transport.base import SSH_PORT

    host = target.stack.host
    return host.address.lower(), host.port or SSH_PORT


TAKEN_ALONG = ("identity", "known_hosts", "connect_timeout", "sudo")
"""Keys of `host` that hold for another machine as well."""


def moved(target: Target, to: str) -> Target:
    """The target on another host, reached with the same key and used in the same way.

    What is of the old machine alone is not taken along: its host key, and the way to it (`jump`).
    """
    from pydantic import ValidationError

    from infrastructure.config.host import Host
    from infrastructure.errors import UsageError

    try:
        host = Host.model_validate(to)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")  # it names no password
        raise UsageError(f"--to is no host: {reason}", hint="such as ubuntu@203.0.113.9") from None
    kept = target.stack.host
    host = host.model_copy(update={name: getattr(kept, name) for name in TAKEN_ALONG})
    stack = target.stack.model_copy(update={"host": host})
    return dataclasses.replace(target, stack=stack)


def _to_write(before: Host, after: Host, to: str) -> str:
    """What to change in stack.yaml; a host with keys of its own keeps those that still hold."""
    in_short = all(
        getattr(before, name) == field.default
        for name, field in type(before).model_fields.items()
        if name not in {"address", "user", "port"}
    )
    if in_short:
        return f"write the new host into stack.yaml: host: {to}"
    values = {name: getattr(after, name) for name in type(before).model_fields}
    changes = ", ".join(
        f"no host.{name}" if value is None else f"host.{name}: {value}"
        for name, value in values.items()
        if value != getattr(before, name)
    )
    return f"change the host in stack.yaml: {changes}"


def _put_and_up(
    current: Settings, moving: _Moved, content: bytes
) -> tuple[Restored, WaitingForPerson | None]:
    """What was put back; and the word of a login that waits for its person, if it does."""
    from infrastructure.cli.host import connected
    from infrastructure.errors import WaitingForPerson
    from infrastructure.plan.compute import compute

    target, rendered = moving.target, moving.release
    with connected(current, target) as session:
        session.open(lock=True)
        found = session.restore(content)
    with connected(current, target) as session:
        session.begin(lock=True)
        plan = compute(target, rendered, session.observe(rendered))
        try:
            session.apply(plan, rendered, wait=moving.wait, command="move")
        except WaitingForPerson as waiting:  # nothing is torn down: the move goes on
            return found, waiting
    return found, None


def _tell(current: Settings, found: Restored, ended: Schedules | None = None) -> None:
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.at))
    current.out.document(
        {
            "at": at,
            "of": found.target,
            "files": found.files,
            "journal": found.journal,
            "aside": found.aside,
            **({} if ended is None else {"ended": dataclasses.asdict(ended)}),
        }
    )
    current.out.say(f"put back: {found.files} files of {found.target}, from {at}")
    if found.aside:
        current.out.say(f"what lay there is in {found.aside}")


def _sealing(encrypt_to: str | None, passphrase_file: Path | None) -> Any:
    from infrastructure.errors import UsageError

    if encrypt_to is not None and passphrase_file is not None:
        raise UsageError("--encrypt-to and --passphrase-file: one of the two", hint="leave one out")
    if encrypt_to is None and passphrase_file is None:
        return lambda content: content
    import pyrage

    from infrastructure.cli.backups import passphrase

    if passphrase_file:
        word = passphrase(passphrase_file)
        return lambda content: pyrage.passphrase.encrypt(content, word)
    try:
        recipient = pyrage.x25519.Recipient.from_str(encrypt_to)
    except pyrage.RecipientError:
        raise UsageError("--encrypt-to is no public key of age", hint="age-keygen -y") from None
    return lambda content: pyrage.encrypt(content, [recipient])


def opened(file: Path, identity: Path | None, passphrase_file: Path | None) -> bytes:
    """A backup's content, decrypted; UsageError when it cannot be had."""
    from infrastructure.errors import UsageError
    from infrastructure.files import given

    if identity is not None and passphrase_file is not None:
        raise UsageError("--identity and --passphrase-file: one of the two", hint=DECRYPTS)
    content = given(file, at_most=MOST_BYTES)
    if content.lstrip()[: len(ARMOURED)] == ARMOURED:
        content = _bare(file, content)
    if not content.startswith(AGE):
        return content
    import pyrage

    from infrastructure.cli.backups import passphrase

    try:
        if identity is not None:
            return bytes(pyrage.decrypt(content, _identities(identity)))
        if passphrase_file is not None:
            return bytes(pyrage.passphrase.decrypt(content, passphrase(passphrase_file)))
    except pyrage.DecryptError:
        raise UsageError(
            f"{file} cannot be decrypted with that",
            hint="the key or passphrase of when it was written; or the file is not whole",
        ) from None
    raise UsageError(f"{file} is encrypted", hint=DECRYPTS)


def _bare(file: Path, content: bytes) -> bytes:
    """What `age --armor` has wrapped, as age itself writes it."""
    import base64

    from infrastructure.errors import UsageError

    lines = [line.strip() for line in content.split(b"\n")]
    inner = b"".join(line for line in lines if not line.startswith(b"-----"))
    try:
        return base64.b64decode(inner, validate=True)
    except ValueError:
        raise UsageError(f"{file} is not whole", hint="another copy of the backup") from None


def _identities(file: Path) -> list[Any]:
    """The secret keys of age in a file."""
    import pyrage

    from infrastructure.errors import UsageError
    from infrastructure.files import given_text

    lines = [line.strip() for line in given_text(file).splitlines()]
    try:
        found = [
            pyrage.x25519.Identity.from_str(line)
            for line in lines
            if line.startswith("AGE-SECRET-KEY-")
        ]
    except pyrage.IdentityError:
        found = []
    if not found:
        raise UsageError(
            f"{file} has no secret key of age",
            hint="the file that age-keygen wrote, with AGE-SECRET-KEY-1…",
        )
    return found
