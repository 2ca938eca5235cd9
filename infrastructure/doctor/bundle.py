"""A redacted archive for a bug report."""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import re
import tarfile
from typing import TYPE_CHECKING

from bridge.login import states
from infrastructure.errors import GangwayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.doctor.evidence import Evidence


LINES = 400
WINDOW = "window.png"
"""The gateway's window, which nothing can be taken out of: it may show names."""
WAITS = (states.BLOCKED, states.WAITING_2FA, states.HELD)


def write(
    current: Settings, evidence: Evidence, document: dict[str, object], file: Path
) -> list[str]:
    """Writes the archive, mode 0600; the names of what is in it."""
    texts = {"doctor.json": _json(document), "versions.json": _json(_versions(evidence))}
    target = evidence.target
    if target is not None:
        texts["config.json"] = _json(target.stack.model_dump(mode="json"))
    if evidence.facts is not None:
        texts["host.json"] = _json({**vars(evidence.facts), "certificate": None})
        texts["status.json"] = _json(evidence.status and vars(evidence.status))
    picture = b""
    if target is not None and evidence.observed is not None:
        logs, picture = _from_host(current, target)
        texts |= logs
    clean = redactor(target)
    contents = {name: clean(text).encode() for name, text in texts.items()}
    if picture:
        contents[WINDOW] = picture
    _archive(contents, file)
    return sorted(contents)


def redactor(target: Target | None) -> Redactor:
    """Knows the target's secrets, names and addresses."""
    if target is None:
        return Redactor((), {})
    from infrastructure.config import secrets

    values: list[str] = []
    for reference, _ in secrets.needed(target).values():
        if reference.command:
            continue  # asking for it may need a person, and it is nowhere in what is collected
        try:
            values.append(secrets.read(target, reference).decode(errors="replace"))
        except GangwayError:
            continue
    stack = target.stack
    names = {
        stack.host.address: "<host>",
        stack.gateway.username or "": "<user>",
        stack.gateway.paper_username or "": "<user>",
        stack.caddy.domain or "": "<domain>",
        stack.host.user or "": "<login>",
    }
    kept = {"root", "local", "127.0.0.1", "sandbox"}
    return Redactor(values, {name: mark for name, mark in names.items() if name not in kept})


def _from_host(current: Settings, target: Target) -> tuple[dict[str, str], bytes]:
    """History and logs; and the gateway's window when a person is waited for there."""
    from infrastructure.cli.host import connected

    found: dict[str, list[str]] = {}
    with connected(current, target) as session:
        session.open()
        picture = b""
        if session.status().login["state"] in WAITS:
            with contextlib.suppress(GangwayError):  # the report is worth more than its picture
                picture = session.picture()
        history = session.history()
        for row in session.logs([], since="", lines=LINES, follow=False):
            found.setdefault(row.service, []).append(f"{row.time} {row.text}")
    logs = {f"logs/{name}.log": "\n".join(rows) + "\n" for name, rows in found.items()}
    return {"history.json": _json(vars(history)), **logs}, picture


def _versions(evidence: Evidence) -> dict[str, object]:
    return {"tools": evidence.tools, "platform": platform.platform()}


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _archive(contents: dict[str, bytes], file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in sorted(contents.items()):
            entry = tarfile.TarInfo(f"gangway-report/{name}")
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))


_PATTERNS = (
    (re.compile(r"\b[DF]?[UIF]\d{5,9}\b"), "<account>"),
    (re.compile(r"(?i)\bsftp://[^/\s\"']+"), "sftp://<address>"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "<address>"),
    (re.compile(r"(?i)(x-api-key|authorization)([\"':\s=\[]+)[^\"'\s\],]+"), r"\1\2<secret>"),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL), "<key>"),
    (re.compile(r"\b(?!127\.)(?:\d{1,3}\.){3}\d{1,3}\b"), "<ip>"),
)


class Redactor:
    """Replaces known secrets and names, then whatever looks like an account, address or key."""

    def __init__(self, secrets: Iterable[str], names: Mapping[str, str]) -> None:
        self._secrets = sorted({one for one in secrets if len(one) > 2}, key=len, reverse=True)
        self._names = {name: mark for name, mark in names.items() if len(name) > 2}

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        for name, mark in self._names.items():
            text = re.sub(rf"(?<![\w]){re.escape(name)}(?![\w])", mark, text)
        for pattern, mark in _PATTERNS:
            text = pattern.sub(mark, text)
        return text
