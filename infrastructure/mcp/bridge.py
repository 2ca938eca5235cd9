"""How the server reaches the bridge: a tunnel over SSH and a key of its own, or a given address."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

from infrastructure.errors import GangwayError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.transport import Transport

PATIENCE: Final = 45.0
"""Seconds for one answer: longer than the bridge takes for any of its own."""
MOST_BYTES: Final = 8_000_000
_KEY_DAYS: Final = 1
_ENDING_SECONDS: Final = 20.0
"""So long the end of the server waits for a host that is to revoke its key."""


class NoAnswerError(GangwayError):
    """Nothing came back: whether the request arrived is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a decoded body."""

    status: int
    body: Any


class Way(Protocol):
    """Where the bridge is, and the key to it."""

    renews: bool
    """Whether a refused key, or a broken connection, can be had anew."""

    def open(self) -> tuple[str, str]:
        """Address and key. Raises GangwayError when the host cannot be reached."""

    def refused(self) -> None:
        """The key was: one that is over is made anew by the next `open`.

        Raises:
            GangwayError: somebody has ended it on purpose.
        """

    def leave(self) -> None:
        """Ends the connection, to be opened anew; the key stays as it is."""

    def close(self) -> None:
        """Ends what was opened for good; the key, too, if it is the server's own."""


class Address:
    """An address and a key that were given."""

    renews = False

    def __init__(self, url: str, key_file: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"--url {url!r} is no http or https address")
        self._url = url.rstrip("/")
        self._file = key_file

    def open(self) -> tuple[str, str]:
        return self._url, read_key(self._file)

    def refused(self) -> None: ...

    def leave(self) -> None: ...

    def close(self) -> None: ...


def read_key(file: Path) -> str:
    """The key in a file; UsageError when there is none."""
    from infrastructure.files import given_text

    key = given_text(file).strip()
    if not key or not key.isascii() or not key.isprintable():
        raise UsageError(f"{file} holds no key", hint="./deploy.py apikey create agent > agent.key")
    return key


class Tunnel:
    """Through the connection to the host, with a key that is made for it and revoked at the end.

    The key is good for a day: one that a killed server leaves behind ends by itself. It outlives a
    broken connection: a new one with each would undo that somebody has revoked it.
    """

    renews = True

    def __init__(
        self, current: Settings, target: Target, scope: str, key_file: Path | None
    ) -> None:
        self._settings, self._target = current, target
        self._scope, self._file = scope, key_file
        self._parts = ExitStack()
        self._transport: Transport | None = None
        self._made = self._key = ""
        self._ending: threading.Thread | None = None

    def open(self) -> tuple[str, str]:
        """The local end of a tunnel, and the key."""
        if self._ending is not None:
            raise GangwayError("the server has ended")  # nobody would revoke another key
        transport = self._connect()
        if self._file is None and not self._made:
            self._made, self._key = self._new_key()
        key = read_key(self._file) if self._file else self._key
        port = self._target.stack.bridge.port
        here = self._parts.enter_context(transport.forward("127.0.0.1", port, 0))
        return f"http://127.0.0.1:{here}", key

    def refused(self) -> None:
        """A key that is over is made anew; one that was revoked is the end of what it was for."""
        status, answer = self._ask("GET", "/keys") if self._made else (0, None)
        if status != 200 or not isinstance(answer, dict):
            return  # which of both is not known: it stays
        keys = answer.get("keys", ())
        if any(each["id"] == self._made and each["revokedAt"] for each in keys):
            raise GangwayError(
                "the key of this server was revoked",
                hint="start the server again for another one",
                code="key-revoked",
            )
        self._made = self._key = ""

    def close(self) -> None:
        """Revokes the key and closes the connection, over a new one where it has broken.

        A host that hangs does not hold the end up. A signal may come while another close waits:
        both wait for the same.
        """
        if self._made and self._ending is None:
            ending = threading.Thread(target=self._end, daemon=True)
            ending.start()
            self._ending = ending
        if self._ending is None:
            self.leave()
        else:
            self._ending.join(_ENDING_SECONDS)

    def _end(self) -> None:
        if self._transport is None or not self._has_asked_to_revoke():
            self.leave()
            with suppress(GangwayError, OSError):
                self._connect()
                self._has_asked_to_revoke()
        self._made = self._key = ""
        self.leave()

    def _has_asked_to_revoke(self) -> bool:
        with suppress(GangwayError, OSError):
            self._ask("DELETE", f"/keys/{self._made}")
            return True
        return False

    def leave(self) -> None:
        """Closes the connection; the key lives on."""
        self._transport = None
        with suppress(GangwayError, OSError):
            self._parts.close()
        self._parts = ExitStack()

    def _connect(self) -> Transport:
        from infrastructure.transport import connect

        self._transport = transport = self._parts.enter_context(
            connect(self._target, self._settings.trust_host_key)
        )
        return transport

    def _new_key(self) -> tuple[str, str]:
        """Its id, and the key."""
        wanted = {"label": f"mcp ({self._scope})", "scope": self._scope, "days": _KEY_DAYS}
        status, answer = self._ask("POST", "/keys", wanted)
        if status == 0:
            raise NoAnswerError("the bridge does not answer on its host", hint="./deploy.py status")
        if status >= 400 or not isinstance(answer, dict):
            told = answer if isinstance(answer, dict) else {}
            raise GangwayError(
                told.get("detail") or f"the bridge made no key: it answers {status}",
                hint=told.get("nextStep") or "",
                code=told.get("code") or "bridge-refused",
            )
        return str(answer["id"]), str(answer["key"])

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        from infrastructure.apply.session import Session
        from infrastructure.cli.progress import Progress

        if self._transport is None:
            raise GangwayError("there is no connection")
        out = self._settings.out
        with (
            Progress(out, verbose=False, quiet=True) as progress,
            Session(self._transport, self._target, progress) as session,
        ):
            session.open()
            found = session.ask_bridge(method, path, body)
        return found.status, found.body


class BridgeClient:
    """Requests to the bridge, from any thread; the way is opened with the first one.

    A broken connection is opened anew and a key that is over made anew, each once for a request.
    That may send a request twice, so only those may come here that do no harm when they arrive
    twice: reading, cancelling, halting, and placing under an idempotency key.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._open: tuple[str, str] | None = None
        self._lock = threading.RLock()  # a signal's close may interrupt another one

    def close(self) -> None:
        with self._lock:
            self._open = None
            self._way.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, Any] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
        seconds: float = PATIENCE,
    ) -> Answer:
        """One request and its answer, whatever its status.

        Raises:
            NoAnswerError: no answer came, or none that can be read.
            GangwayError: the host cannot be reached, or gives no key.
        """
        target = f"{path}?{_encoded(query)}" if query else path
        was_broken = was_refused = not self._way.renews
        while True:
            opened = self._opened()
            try:
                answer = _exchange(*opened, method, target, body, headers or {}, seconds)
            except TimeoutError:
                self._forget(opened)
                raise NoAnswerError(
                    f"the bridge did not answer within {seconds:.0f} s", code="no-answer"
                ) from None
            except (OSError, http.client.HTTPException) as error:
                self._forget(opened)
                if was_broken:
                    raise NoAnswerError(
                        f"the connection to the bridge broke: {type(error).__name__}",
                        hint="./deploy.py status",
                        code="no-answer",
                    ) from None
                was_broken = True
                continue
            if answer.status == 401 and not was_refused:
                self._forget(opened, refused=True)
                was_refused = True
                continue
            return answer

    def _opened(self) -> tuple[str, str]:
        with self._lock:
            if self._open is None:
                try:
                    self._open = self._way.open()
                except BaseException:
                    self._shut()
                    raise
            return self._open

    def _forget(self, opened: tuple[str, str], *, refused: bool = False) -> None:
        """Another request may have opened it anew meanwhile: that one stays."""
        with self._lock:
            if self._open is opened and self._way.renews:
                if refused:
                    self._way.refused()
                self._shut()

    def _shut(self) -> None:
        self._open = None
        self._way.leave()


def _encoded(query: dict[str, Any]) -> str:
    said = {name: value for name, value in query.items() if value not in (None, "", [])}
    return urlencode(
        {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in said.items()
        }
    )


def _exchange(
    url: str, key: str, method: str, path: str, body: Any, headers: dict[str, str], seconds: float
) -> Answer:
    parts = urlsplit(url)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(
            host, parts.port, timeout=seconds, context=ssl.create_default_context()
        )
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, parts.port, timeout=seconds)
    )
    sent = {"X-API-KEY": key, "Accept": "application/json", **headers}
    content = None
    if body is not None:
        content = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, parts.path + path, content, sent)
        response = connection.getresponse()
        raw = response.read(MOST_BYTES + 1)
    finally:
        connection.close()
    if len(raw) > MOST_BYTES:
        raise NoAnswerError("the bridge's answer is too long", code="answer-too-long")
    try:
        return Answer(response.status, json.loads(raw) if raw else None)
    except ValueError:
        raise NoAnswerError(
            f"what answers there ({response.status}) is not the bridge", code="not-the-bridge"
        ) from None
