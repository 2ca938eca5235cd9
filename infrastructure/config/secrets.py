"""Secrets: references in stack.yaml, values read at the last moment and never shown.

The project's own store is `.gangway/secrets/<target>/` beside stack.yaml: a file per name, 0600 in
folders of 0700, kept out of git by a `.gitignore` of its own.
"""

from __future__ import annotations

import logging
import os
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure import files
from infrastructure.config import terms
from infrastructure.config.plain import stored
from infrastructure.config.worker_files import secret_file_name
from infrastructure.errors import ConfigError, Place, Problem, UsageError
from infrastructure.release_files import ADMIN_KEY, FLEX_TOKEN, TOTP_SEED

if TYPE_CHECKING:
    from infrastructure.config.base import SecretRef
    from infrastructure.config.target import Target

USERNAME = "tws-username"
"""Where the user name is looked for when stack.yaml has none; not a secret, so it is shown."""
BACKUP_PASSWORD = "backup-password"  # noqa: S105 - its name
"""Of the repository that `backup --to` writes; no part of a release, so no deploy needs it."""
GENERATED = {ADMIN_KEY: "the bridge's first key"}
"""Names that `resolve` makes up and stores when they are not there yet."""
UNMADE = "secret-unmade"
"""Of what is looked at and not deployed: nothing is wrong with a secret that a deploy makes."""
_COMMAND_SECONDS = 60


def needed(target: Target) -> dict[str, tuple[SecretRef, Place]]:
    """Every secret that a deploy of the target needs, by its name in the release."""
    gateway, bridge = target.stack.gateway, target.stack.bridge
    found: dict[str, tuple[SecretRef, Place]] = {}
    real = target.stack.runtime == "compose"  # nobody logs in to the sandbox
    if real:
        found["tws-password"] = (gateway.password, target.place("gateway", "password"))
        if gateway.username is None:
            found[USERNAME] = (stored(USERNAME), target.place("gateway", "username"))
    if real and gateway.mode == "both":
        at = target.place("gateway", "paper_password")
        found["tws-password-paper"] = (gateway.paper_password, at)
    if real and gateway.two_factor.totp is not None:
        at = target.place("gateway", "two_factor", "totp", "seed")
        found[TOTP_SEED] = (gateway.two_factor.totp.seed, at)
    if real and target.stack.portal.enabled:
        at = target.place("portal", "password")
        found["portal-password"] = (target.stack.portal.password, at)
    for place, url in enumerate(target.stack.alerts.urls):
        found[f"alert-url-{place + 1}"] = (url, target.place("alerts", "urls", place))
    if bridge.flex is not None:
        found[FLEX_TOKEN] = (bridge.flex.token, target.place("bridge", "flex", "token"))
    for worker, settings in target.stack.workers.items():
        for name, reference in settings.secrets.items():
            at = target.place("workers", worker, "secrets", name)
            found[secret_file_name(worker, name)] = (reference, at)
    found[ADMIN_KEY] = (bridge.admin_key, target.place("bridge", "admin_key"))
    return found


def folder(target: Target) -> Path:
    """The store of a target."""
    if target.file is None:
        return Path(target.base) / "secrets"
    return target.file.resolve().parent / ".gangway" / "secrets" / target.name


def resolve(target: Target, *, generate: bool = True) -> dict[str, bytes]:
    """The value of every needed secret; ConfigError with all that are missing or broken.

    Without `generate` what the next deploy makes up is one that is missing, with code `UNMADE`.
    """
    values: dict[str, bytes] = {}
    problems: list[Problem] = []
    for name, (reference, place) in needed(target).items():
        if _to_be_made(target, name, reference):
            if not generate:
                hint = "`up` makes one; on a second computer, store the first one's"
                message = f"'{reference.stored}' is not there"
                problems.append(Problem(message, place, hint, UNMADE))
                continue
            store(target, name, new_key(), once=True)
        try:
            values[name] = _settled(target, name, read(target, reference))
        except UsageError as error:
            problems.append(_problem(error, place))
    if problems:
        plural = "secret is" if len(problems) == 1 else "secrets are"
        raise ConfigError(f"{len(problems)} {plural} not available", found=tuple(problems))
    return values


def _require_strong(key: bytes) -> None:
    """What the bridge refuses at its start is refused before anything is sent."""
    word = key.strip()
    if len(word) >= 16 and len(set(word)) >= 6 and len(word.split()) == 1:
        return
    raise UsageError(
        "the bridge's first key can be guessed: it needs 16 characters or more, in one word",
        hint=f"./deploy.py secrets set {ADMIN_KEY}; openssl rand -base64 32 makes a good one",
        code="weak-admin-key",
    )


def _settled(target: Target, name: str, value: bytes) -> bytes:
    """The value as it is used; UsageError for one that cannot be right."""
    if name == ADMIN_KEY:
        _require_strong(value)
    return user_name(target, value) if name == USERNAME else value


def _problem(error: UsageError, place: Place) -> Problem:
    return Problem(error.message, error.place or place, error.hint, error.code)


def user_name(target: Target, value: bytes) -> bytes:
    """The stored user name, without blanks around it, held to what one in stack.yaml is held to.

    Raises:
        UsageError: it is none, or the Client Portal's.
    """
    try:
        name = terms.user_name(value.decode(errors="replace").strip())
    except ValueError as error:
        hint = f"./deploy.py secrets set {USERNAME}, with the name alone"
        raise UsageError(
            f"secret '{USERNAME}' cannot be used: {error}", hint=hint, code="bad-secret"
        ) from None
    portal = target.stack.portal
    if portal.enabled and portal.username and terms.same_user(portal.username, name):
        message, hint = terms.PORTAL_IS_THE_GATEWAY
        raise UsageError(message, target.place("portal", "username"), hint, "unsafe")
    return name.encode()


def missing(target: Target) -> list[Problem]:
    """Needed secrets that are not there, found without running any command."""
    problems = []
    for name, (reference, place) in needed(target).items():
        if reference.command or name in GENERATED:
            continue
        try:
            _settled(target, name, read(target, reference))
        except UsageError as error:
            problems.append(_problem(error, place))
    return problems


def storable(target: Target) -> list[str]:
    """The names in the store that the target refers to."""
    references = (reference for reference, _ in needed(target).values())
    return [*(one.stored for one in references if one.stored), BACKUP_PASSWORD]


def state(target: Target, name: str) -> str:
    """`set`, `missing`, `unusable`, `generated` (by the next deploy) or `command` (not run)."""
    reference, _ = needed(target)[name]
    if reference.command:
        return "command"
    if _to_be_made(target, name, reference):
        return "generated"
    try:
        _settled(target, name, read(target, reference))
    except UsageError as error:
        return "missing" if error.code == "missing-secret" else "unusable"
    return "set"


def new_key() -> bytes:
    """A fresh random key."""
    import secrets as random

    return random.token_urlsafe(32).encode()


def read(target: Target, reference: SecretRef) -> bytes:
    """One value; UsageError (without the value) when it cannot be had."""
    if reference.command:
        return _from_command(reference.command)
    path = path_of(target, reference)
    try:
        value = files.content(path)
    except FileNotFoundError:
        hint = f"./deploy.py --target {target.name} secrets set {reference.stored}"
        if reference.file:
            hint = f"write the value to {reference.file}, mode 0600"
        raise UsageError(f"{reference} is not there", hint=hint, code="missing-secret") from None
    except OSError as error:
        message = f"cannot read {reference}: {error.strerror}"
        hint = "a file of yours with the value on one line, mode 0600"
        raise UsageError(message, hint=hint, code="missing-secret") from None
    if path.stat().st_mode & 0o077:
        hint = f"chmod 600 {path}"
        raise UsageError(f"{reference} can be read by others", hint=hint, code="secret-mode")
    return _one_line(value, str(reference))


def store(target: Target, name: str, value: bytes, *, once: bool = False) -> Path:
    """Writes a value to the store, whole and on the disk, 0600; returns its path.

    Some are made up here and held nowhere else: the backups' password must outlive a power cut.
    `once`: of two commands at the same moment the first makes one, and both have that.

    Raises:
        OSError: it cannot be written; an earlier value stays.
    """
    from infrastructure.apply.host.store import sync_folder
    from infrastructure.config.base import SecretRef

    place = folder(target)
    previous = os.umask(0o077)
    try:
        place.mkdir(parents=True, exist_ok=True)
        ignore = place.parents[1] / ".gitignore" if target.file else None
        if ignore is not None and not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")
        path = place / str(SecretRef(stored=name).stored)
        files.write_over(path, _one_line(value, f"secret '{name}'"), once=once)
        for above in place.parents[:3]:  # their names, too, if they were just made
            with suppress(OSError):
                sync_folder(above)
    finally:
        os.umask(previous)
    return path


def path_of(target: Target, reference: SecretRef) -> Path:
    """The file of a reference that is stored or a file."""
    if reference.stored:
        return folder(target) / reference.stored
    path = files.expanded(reference.file or "")
    return path if path.is_absolute() or target.file is None else target.file.parent / path


def _to_be_made(target: Target, name: str, reference: SecretRef) -> bool:
    return (
        name in GENERATED
        and reference.stored is not None
        and not os.path.exists(path_of(target, reference))  # noqa: PTH110 - it raises nothing
    )


def _one_line(value: bytes, what: str) -> bytes:
    text = value.rstrip(b"\r\n")
    if not text:
        hint = "./deploy.py secrets set stores one"
        raise UsageError(f"{what} is empty", hint=hint, code="missing-secret")
    if b"\n" in text or b"\0" in text:
        hint = "one line, nothing else; printf '%s' VALUE writes one"
        raise UsageError(f"{what} has more than one line", hint=hint, code="bad-secret")
    try:
        text.decode()
    except UnicodeDecodeError:
        hint = "save it as UTF-8, or give it by ./deploy.py secrets set"
        raise UsageError(f"{what} is no UTF-8 text", hint=hint, code="bad-secret") from None
    return text


def _from_command(command: tuple[str, ...]) -> bytes:
    shown = f"command {command[0]}"
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, timeout=_COMMAND_SECONDS, check=False
        )
    except FileNotFoundError:
        hint = "install it, or use {stored: …} or {file: …}"
        raise UsageError(f"{shown} is not installed", hint=hint, code="missing-secret") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        slow = isinstance(error, subprocess.TimeoutExpired)
        reason = f"took longer than {_COMMAND_SECONDS} seconds" if slow else "cannot be run"
        raise UsageError(f"{shown} {reason}", code="missing-secret") from None
    if done.returncode != 0:
        hint = "run it by hand to see what it needs, such as signing in"
        message = f"{shown} ended with exit code {done.returncode}"
        raise UsageError(message, hint=hint, code="missing-secret")
    return _one_line(done.stdout, shown)


# --- addresses that alerts go to: they hold tokens, so one is never shown ------------------------
ALERT_EXAMPLES = "such as ntfy://my-topic, tgram://TOKEN/CHAT or discord://ID/TOKEN"


def alert_names(target: Target) -> set[str]:
    """The names in the store that `alerts.urls` refers to."""
    return {reference.stored for reference in target.stack.alerts.urls if reference.stored}


def alert_address(value: bytes, name: str) -> bytes:
    """The address, if Apprise knows what to do with it; else UsageError, without the address."""
    import apprise

    try:
        text = value.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise _bad(name, "is not UTF-8 text") from None
    if "://" not in text:
        raise _bad(name, "is no service address")
    if len(text.splitlines()) > 1:  # a second line would make the whole file unusable
        raise _bad(name, "is more than one line: one address each")
    logging.getLogger("apprise").disabled = True  # it would print the address
    with warnings.catch_warnings():  # it loads all of its services, old imports included
        warnings.simplefilter("ignore", DeprecationWarning)
        understood = apprise.Apprise.instantiate(text, suppress_exceptions=True) is not None
    if not understood:
        raise _bad(name, "is no address that Apprise can use")
    return value


def _bad(name: str, what: str) -> UsageError:
    return UsageError(f"secret '{name}' {what}", hint=ALERT_EXAMPLES, code="bad-secret")
