"""What rendering gives: files as values, nothing written yet; and how a template is filled in.

Names in templates are strict, and each kind of file has the quoting that it needs.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infrastructure import kept
from infrastructure.program import PROJECT
from infrastructure.release_files import ADMIN_KEY, COMPOSE_FILE, SECRETS, SERVICES

if TYPE_CHECKING:
    from pathlib import Path

    from jinja2 import Environment, Template

CONTAINER_UID = 1000
"""The user that the gateway's image and the bridge's image run as."""
TEMPLATES = PROJECT / "templates"
RANDOM_KEYS = (f"{SECRETS}/{ADMIN_KEY}",)
"""Secrets that `secrets.new_key` makes, where the user has set none."""
_RANDOM_KEY = re.compile(rb"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """One file of a release.

    `path` is relative to the release folder, with `/`. `services` name who reads it: a change in
    it changes their content hash, and only theirs. `uid` is the owner it must have on the host
    (None: whoever unpacks); a secret is 0400 and must belong to the user that reads it.
    """

    path: str
    content: bytes = field(repr=False)
    mode: int = 0o644
    secret: bool = False
    services: tuple[str, ...] = ()
    uid: int | None = None
    _digest: str = field(default="", init=False, repr=False, compare=False)

    @property
    def digest(self) -> str:
        """Hex digest that stands for the content in `release.json` and in labels.

        SHA-256; of a secret that a person may have chosen the slow scrypt, because a label can be
        read by more people than the secret itself and a password must not be guessed from it. The
        same on every machine, so that a second laptop sees no change.
        """
        if self.secret and not self.is_random():
            return _slow_digest(self.path, self.content).result()
        if not self._digest:  # asked for again by the image, each service, the release and the plan
            object.__setattr__(self, "_digest", hashlib.sha256(self.content).hexdigest())
        return self._digest

    def is_random(self) -> bool:
        """Whether it is a key of 256 random bits, as they are made here: nobody guesses those."""
        return self.path in RANDOM_KEYS and _RANDOM_KEY.fullmatch(self.content) is not None


class SlowDigest(threading.Thread):
    """A secret's digest, computed while the rest is rendered: it takes as long as all of that."""

    def __init__(self, path: str, content: bytes) -> None:
        super().__init__(daemon=True)
        self._path, self._content, self._digest = path, content, b""
        self.start()

    def run(self) -> None:
        """Computes it; OpenSSL lets other threads run meanwhile."""
        salt = f"gangway secret {self._path}".encode()
        self._digest = hashlib.scrypt(self._content, salt=salt, n=2**14, r=8, p=1, dklen=32)

    def result(self) -> str:
        self.join()
        if not self._digest:
            self.run()  # it failed there: here the reason is heard
        return self._digest.hex()


@functools.lru_cache(maxsize=64)
def _slow_digest(path: str, content: bytes) -> SlowDigest:
    return SlowDigest(path, content)


LEFT_OUT = b"leftout" * 3
"""Stands for a secret that is not written: good as a password and as a seed."""


def secret_file(name: str, content: bytes, service: str) -> RenderedFile:
    """A secret that one service reads."""
    path = f"{SECRETS}/{name}"
    made = RenderedFile(path, content, 0o400, True, (service,), CONTAINER_UID)
    if not made.is_random():
        _slow_digest(path, content)  # begins now
    return made


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder below `data/` that is kept across releases, with the owner its service needs.

    `uid` None: whoever deploys.
    """

    path: str
    uid: int | None = CONTAINER_UID
    mode: int = 0o700


@dataclass(frozen=True, slots=True)
class Service:
    """One service of the stack as it should run.

    `hash` covers the service's compose definition and every file it reads; it stands in the
    label `gangway.hash`. `holds_session` marks the one that a new login (2FA) belongs to.
    """

    name: str
    image: str
    hash: str
    holds_session: bool = False
    builds: bool = False
    needs: str = ""
    """Of a worker: what a deploy waits for before it starts it."""
    api_key: str = ""
    """Of a worker: the scope of its key for the bridge; empty: it has none."""

    @property
    def worker(self) -> bool:
        """Whether it is its owner's, not gangway's."""
        return self.name not in SERVICES


@dataclass(frozen=True, slots=True)
class Release:
    """Everything a deploy pushes. `id` is content-addressed: the same input gives the same id."""

    id: str
    stack: str
    project: str
    files: tuple[RenderedFile, ...]
    services: tuple[Service, ...]
    folders: tuple[DataFolder, ...]
    definition: str = COMPOSE_FILE
    """The file whose `services` say how each is run."""

    def file(self, path: str) -> RenderedFile:
        """The file at this path; KeyError when there is none."""
        for item in self.files:
            if item.path == path:
                return item
        raise KeyError(path)

    def service(self, name: str) -> Service:
        """The service of this name; KeyError when there is none."""
        for item in self.services:
            if item.name == name:
                return item
        raise KeyError(name)


def quote(value: Any) -> str:
    """A value for stack.yaml: JSON, which YAML reads.

    Not plain ASCII, as YAML does not join JSON's surrogate pairs; but what YAML takes for a line
    break or does not allow as it is, is escaped.
    """
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", text
    )


def word(value: str) -> str:
    """One token of a Caddyfile; ValueError for what could end it or start a block."""
    if not re.fullmatch(r"[A-Za-z0-9@_.:/+\[\]-]+", value):
        raise ValueError(f"{value!r} is no single word for the Caddyfile")
    return value


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - no HTML; every value passes `q` or `word`
    )
    environment.filters["q"] = quote
    environment.filters["word"] = word
    return environment


def render(path: Path, **values: Any) -> str:
    """A template filled in; an unknown name is an error."""
    text = path.read_text(encoding="utf-8")
    if not kept.in_use():  # where values may be of any kind
        return _template(text).render(**values)
    parts = text.encode(), json.dumps(values, sort_keys=True).encode()
    return str(kept.once("text", parts, lambda: _template(text).render(**values)))


@functools.cache
def _template(text: str) -> Template:
    return _environment().from_string(text)
