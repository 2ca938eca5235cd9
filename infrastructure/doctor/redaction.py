"""Takes out of a report what is nobody's business: secrets, accounts, names and addresses."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import platform
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infrastructure.errors import GangwayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from infrastructure.config import Target
    from infrastructure.config.host import Host
    from infrastructure.config.models import Stack

SHORTEST = 3
"""Letters of a secret or name that is looked for in texts: shorter ones are in every word."""
SHORTEST_VALUE = 6
"""Of a variable's value, which may as well be a plain word such as `debug` or a number."""
_KEPT = {"root", "local", "localhost", "127.0.0.1", "::1", "sandbox", "", "/", "/root"}
_WHOLE = {
    "username": "<user>",
    "paper_username": "<user>",
    "jump": "<host>",
    "names": "<name>",
    "email": "<address>",
    "by": "<person>",
}
"""Keys whose values are told by what they stand for, however short they are."""


def masked(value: Any, key: str = "") -> Any:
    """A document without the values that may be anything, a token as well.

    Those are the values of variables, and the words behind a command's name.
    """
    if isinstance(value, dict):
        if key == "environment":
            return dict.fromkeys(value, "<value>")
        return {name: masked(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        if key == "command":
            return [*value[:1], *("<argument>" for _ in value[1:])]
        return [masked(each, key) for each in value]
    return _WHOLE[key] if key in _WHOLE and isinstance(value, str) else value


def redactor(target: Target | None) -> Redactor:
    """Knows the target's secrets, names and addresses."""
    names = dict(_here())
    if target is None:
        return Redactor((), names)
    for name, mark in (*_names(target.stack), *_stored_user(target), *_way(target)):
        names.setdefault(name, mark)
    return Redactor(_values(target), names)


def _values(target: Target) -> Iterator[str]:
    """Secrets, and the values of variables: a log may repeat what a container was given."""
    from infrastructure.config import secrets

    for name, (reference, _) in secrets.needed(target).items():
        if reference.command or name == secrets.USERNAME:
            continue  # asking for it may need a person, and it is nowhere in what is collected
        with contextlib.suppress(GangwayError):
            yield secrets.read(target, reference).decode(errors="replace")
    stack = target.stack
    for environment in (
        stack.gateway.environment,
        *(worker.environment for worker in stack.workers.values()),
    ):
        yield from (value for value in environment.values() if len(value) >= SHORTEST_VALUE)


def _here() -> Iterator[tuple[str, str]]:
    """Of the machine that this runs on."""
    yield os.path.expanduser("~"), "~"  # noqa: PTH111 - it raises nothing
    yield platform.node(), "<here>"


def _names(stack: Stack) -> Iterator[tuple[str, str]]:
    for user in (stack.gateway.username, stack.gateway.paper_username, stack.portal.username):
        yield user or "", "<user>"
    yield stack.caddy.domain or "", "<domain>"
    yield from ((name, "<name>") for name in stack.caddy.names)
    yield from ((account, "<account>") for account in stack.trading.allow_accounts or ())
    yield urlsplit(stack.portal.url or "").hostname or "", "<portal>"
    yield from _of_host(stack.host)


def _stored_user(target: Target) -> Iterator[tuple[str, str]]:
    """No secret but a name, which the gateway writes in letters of either case."""
    from infrastructure.config import secrets

    if secrets.USERNAME in secrets.needed(target):
        with contextlib.suppress(GangwayError):
            reference, _ = secrets.needed(target)[secrets.USERNAME]
            yield secrets.read(target, reference).decode(errors="replace").strip(), "<user>"


def _of_host(host: Host) -> Iterator[tuple[str, str]]:
    from infrastructure.config.host import Host

    yield host.address, "<host>"
    yield host.user or "", "<login>"
    for jump in host.jump.split(",") if host.jump else ():
        yield from _of_host(Host.model_validate(jump))


def _way(target: Target) -> Iterator[tuple[str, str]]:
    """What stands behind an alias of `~/.ssh/config`."""
    if target.local:
        return
    from infrastructure.transport.openssh import resolve

    found = None
    with contextlib.suppress(GangwayError):
        found = resolve(target.stack.host)
    while found is not None:
        yield found.address, "<host>"
        yield found.user, "<login>"
        found = found.jump


def _address(found: re.Match[str]) -> str:
    """What is put for a text of hexadecimal digits and colons, which may be a time as well."""
    text = found[0]
    begin = len(text) - len(text.lstrip(":")) if not text.startswith("::") else 0
    # A port, a colon or a full stop may follow it: the longest beginning that is an address.
    for end in range(len(text), begin + 1, -1):
        with contextlib.suppress(ValueError):
            address = ipaddress.IPv6Address(text[begin:end])
            inner = address.ipv4_mapped or address
            if inner.is_loopback or inner.is_unspecified:
                return text
            return f"{text[:begin]}<ip>{text[end:]}"
    return text


_IPV6 = re.compile(
    r"(?<!\w)(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:]{2,50}(?:(?:\.\d{1,3}){3})?(?:%[\w.-]+)?"
)
_PATTERNS = (
    (re.compile(r"\b[DF]?[UIF][A-Z]?\d{5,9}\b"), "<account>"),
    (re.compile(r"(?i)\bsftp://[^/\s\"']+"), "sftp://<address>"),
    (re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+"), "<address>"),
    (re.compile(r"(?i)(x-api-key|authorization)([\"':\s=\[]+)[^\"'\s\],]+"), r"\1\2<secret>"),
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL), "<key>"),
    (_IPV6, _address),
    (re.compile(r"\b(?!127\.)(?:\d{1,3}\.){3}\d{1,3}\b"), "<ip>"),
)


class Redactor:
    """Replaces known secrets and names, then whatever looks like an account, address or key."""

    def __init__(self, secrets: Iterable[str], names: Mapping[str, str]) -> None:
        known = {way for one in secrets if len(one) >= SHORTEST for way in _written(one)}
        self._secrets = sorted(known, key=len, reverse=True)
        self._marks = {
            name.lower(): mark
            for name, mark in names.items()
            if len(name) >= SHORTEST and name not in _KEPT
        }
        # The longest first: a host's name may begin with a user's.
        every = "|".join(map(re.escape, sorted(self._marks, key=len, reverse=True)))
        self._names = re.compile(rf"(?<!\w)(?:{every})(?!\w)", re.IGNORECASE) if every else None

    def __call__(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, "<secret>")
        if self._names is not None:
            text = self._names.sub(lambda found: self._marks[found[0].lower()], text)
        for pattern, mark in _PATTERNS:
            text = pattern.sub(mark, text)
        return text


def _written(secret: str) -> set[str]:
    """A secret as it is, and as it stands in JSON."""
    return {
        secret,
        *(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)),
    }
