"""Why a service changes: which files, which settings, as one line and as a unified diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infrastructure.release_files import HASH_LABEL, RELEASE_FILE, SERVICES, WORKERS

if TYPE_CHECKING:
    from infrastructure.plan.observed import Observed
    from infrastructure.render.model import Release, RenderedFile, Service

_SOURCES = ("image/", f"{WORKERS}/")
_MOST_LINES = 200
UNKNOWN = "its configuration changed"


def explain(service: Service, release: Release, observed: Observed) -> tuple[str, str]:
    """The cause as a line, and the diff behind it (never a secret's content)."""
    causes: list[str] = []
    diffs: list[str] = []
    before, after = (
        _definition(service.name, old(release.definition, observed)),
        _definition(service.name, release.file(release.definition).content),
    )
    if before != after:
        causes += _settings(before, after)
        diffs.append(_diff(f"{release.definition} {service.name}", _lines(before), _lines(after)))
    changed = [file for file in release.files if _differs(file, service.name, observed)]
    sources = [file for file in changed if file.path.startswith(_SOURCES)]
    if sources:
        causes.append(f"{len(sources)} source {'file' if len(sources) == 1 else 'files'} changed")
    for file in changed:
        cause, diff = _file(file, observed)
        if file not in sources:
            causes.append(cause)
        diffs.append(diff)
    for path in _gone(service.name, release, observed):
        causes.append(f"{path} is gone")
    cause = "an earlier deploy left it alone" if observed.release == release.id else UNKNOWN
    return ", ".join(dict.fromkeys(causes)) or cause, "".join(diffs)


def loose_files(release: Release, observed: Observed) -> list[str]:
    """Changed files that no service reads; nothing on a first deploy counts as loose."""
    if observed.release is None or observed.release == release.id:
        return []
    return [
        file.path
        for file in release.files
        if not file.services
        and file.path != RELEASE_FILE
        and file.path in observed.files
        and observed.files[file.path].digest != file.digest
    ]


def _differs(file: RenderedFile, service: str, observed: Observed) -> bool:
    if service not in file.services:
        return False
    old = observed.files.get(file.path)
    return old is None or old.digest != file.digest


def _file(file: RenderedFile, observed: Observed) -> tuple[str, str]:
    old = observed.files.get(file.path)
    if file.secret:
        name = file.path.rpartition("/")[2]
        line = f"secret {name} {'changed' if old else 'added'}"
        return line, f"{line}\n"
    if old is None:
        return f"{file.path} added", f"{file.path} added\n"
    if old.content is None:
        return f"{file.path} changed", f"{file.path} changed\n"
    try:
        texts = old.content.decode().splitlines(), file.content.decode().splitlines()
    except UnicodeDecodeError:
        return f"{file.path} changed", f"{file.path} changed (not text)\n"
    return f"{file.path} changed", _diff(file.path, *texts)


def _gone(service: str, release: Release, observed: Observed) -> list[str]:
    """Files of the service's folder that the new release lacks."""
    prefix = f"{service}/" if service in SERVICES else f"{WORKERS}/{service}/"
    wanted = {file.path for file in release.files}
    return [path for path in observed.files if path.startswith(prefix) and path not in wanted]


def _diff(name: str, before: list[str], after: list[str]) -> str:
    import difflib

    lines = list(difflib.unified_diff(before, after, f"{name} (now)", f"{name} (new)", lineterm=""))
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"… {len(lines) - _MOST_LINES} more lines"]
    return "".join(f"{line}\n" for line in lines)


def variables(service: str, text: bytes) -> dict[str, str]:
    """A service's environment in a definition."""
    found: dict[str, str] = _definition(service, text).get("environment") or {}
    return found


_LOGIN = {
    "TRADING_MODE": "mode",
    "TWS_USERID": "user",
    "TWS_USERID_PAPER": "paper user",
    "READ_ONLY_API": "read-only",
}
"""Variables of a gateway that say into which account it logs in, and what it may do there."""


def other_login(before: bytes, after: bytes) -> str:
    """What is another in the gateway's login, such as `mode paper -> live`; empty: nothing.

    Nothing as well where one of the definitions is not known.
    """
    was, will = variables("gateway", before), variables("gateway", after)
    if not was or not will:
        return ""
    return ", ".join(
        f"{word} {was.get(name, 'none')} -> {will.get(name, 'none')}"
        for name, word in _LOGIN.items()
        if was.get(name) != will.get(name)
    )


def old(path: str, observed: Observed) -> bytes:
    """What a file of the release that serves holds, as far as it was fetched."""
    file = observed.files.get(path)
    return (file.content if file else None) or b""


def _definition(service: str, text: bytes) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        document = yaml.load(text, Loader=loader) or {}  # noqa: S506 - a safe one
    except yaml.YAMLError:
        return {}
    definition = dict((document.get("services") or document).get(service) or {})
    labels = {k: v for k, v in (definition.get("labels") or {}).items() if k != HASH_LABEL}
    return {**definition, "labels": labels} if definition else {}


def _settings(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """`image A -> B`, `environment TZ`, `mem_limit`: what differs, by name."""
    if not before:
        return []
    found = []
    for key in dict.fromkeys([*after, *before]):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if key == "image":
            found.append(f"image {old} -> {new}")
        elif key == "environment" and isinstance(old, dict) and isinstance(new, dict):
            names = [n for n in dict.fromkeys([*new, *old]) if old.get(n) != new.get(n)]
            found.append(f"environment {' '.join(names)}")
        else:
            found.append(f"{key} changed")
    return found


def _lines(definition: dict[str, Any]) -> list[str]:
    import yaml

    if not definition:
        return []
    return str(yaml.safe_dump(definition, sort_keys=True, width=1000)).splitlines()
