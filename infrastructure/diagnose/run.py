"""Tries the ways to the bridge, step by step with timings, and says what was found."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

from infrastructure.config.terms import TWS_PORTS
from infrastructure.errors import GangwayError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target

STATES = {
    "waiting-for-gateway": "the gateway does not accept connections yet",
    "waiting-2fa": "the gateway waits for the second factor of its login",
    "connecting": "the bridge is connecting right now",
    "upstream-lost": "the gateway runs, but has lost its own line to IBKR",
    "stalled": "the gateway accepts connections but does not answer",
    "reconnecting": "the connection was lost and is being restored",
    "session-conflict": "the user is logged in elsewhere, or the client id is taken",
    "halted": "trading is halted by a person, or because of a journal that is not accepted",
    "starting": "the bridge has just started",
}
NO_ORDERS = {
    "halted": STATES["halted"],
    "read-only": "the gateway refuses every order",
    "stalled": "the bridge's journal cannot be used",
}
"""What keeps orders back although the session with the gateway is complete (`connected`)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One try: how long it took, whether it went well, what came back."""

    name: str
    seconds: float
    fine: bool
    text: str
    status: int = 0
    body: Any = None

    def as_json(self) -> dict[str, Any]:
        """Without the body, but for /health."""
        shown = {"step": self.name, "ok": self.fine, "seconds": round(self.seconds, 4)}
        more = {"health": self.body} if self.name == "health" else {}
        return {**shown, "status": self.status, "text": self.text, **more}


@dataclass
class Way:
    """One way to the bridge."""

    name: str
    url: str
    steps: list[Step] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether every step went well."""
        return bool(self.steps) and all(step.fine for step in self.steps)

    def step(self, name: str) -> Step | None:
        """The step of this name, if it was tried."""
        return next((step for step in self.steps if step.name == name), None)


@dataclass
class Diagnosis:
    """The ways that were tried: outside first."""

    ways: list[Way] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The shape of `diagnose --json`."""
        return {
            "ways": [
                {
                    "name": way.name,
                    "url": way.url,
                    "ok": way.fine,
                    "steps": [step.as_json() for step in way.steps],
                }
                for way in self.ways
            ]
        }


PATIENCE = 10.0
CONNECT_PATIENCE = 40.0


def diagnose(
    current: Settings,
    target: Target,
    *,
    connect_once: bool,
    key_file: Path | None,
    url: str | None,
) -> Diagnosis:
    """From outside; when that fails, also through the connection to the host."""
    key = read_key(target, key_file)
    found = Diagnosis([outside(target, key, connect_once=connect_once, url=url)])
    ping = found.ways[0].step("ping")
    if (ping is None or not ping.fine) and url is None:
        inside = within(current, target, key, connect_once=connect_once)
        if inside is not None:
            found.ways.append(inside)
    return found


def read_key(target: Target, file: Path | None) -> str:
    """The key of the file, else the first key from the store."""
    if file is not None:
        from infrastructure.mcp.bridge import read_key as from_file

        return from_file(file)
    from infrastructure.config import secrets

    return secrets.read(target, target.stack.bridge.admin_key).decode()


def outside(target: Target, key: str, *, connect_once: bool, url: str | None) -> Way:
    """Through Caddy, as a client comes."""
    from infrastructure.render.caddy import public

    address = url or public(target)
    way = Way("from outside", address)
    parts, host, port = _parts(address)
    if port in TWS_PORTS:
        text = (
            f"port {port} speaks the TWS API, not HTTP: the bridge's HTTP API is at"
            f" {public(target)}; TWS API clients go through ./deploy.py tunnel api"
        )
        way.steps.append(Step("port", 0, False, text))
        return way
    trusted = target.stack.caddy.domain is not None or url is not None
    way.steps.append(timed("name", lambda: resolve(host)))
    if way.fine:
        way.steps.append(timed("tcp", lambda: accept(host, port)))
    if way.fine and parts.scheme == "https":
        way.steps.append(timed("tls", lambda: handshake(host, port, trusted=trusted)))
    if way.fine:
        context = tls(trusted=trusted) if parts.scheme == "https" else None
        ask(way, Client(host, port, context, key), connect_once=connect_once)
    return way


def _parts(address: str) -> tuple[SplitResult, str, int]:
    """The address with its host and port; UsageError for what is none."""
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UsageError(f"--url {address!r} is no address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"--url {address!r} is no http or https address")
    if parts.path.strip("/") or parts.query:
        raise UsageError(
            f"--url {address!r} leads below an address", hint="the bridge answers at its root"
        )
    return parts, parts.hostname, port


def within(current: Settings, target: Target, key: str, *, connect_once: bool) -> Way | None:
    """The bridge's own port on the host, over the SSH connection; None when there is none."""
    from infrastructure.cli.host import reached

    try:
        with reached(current, target) as (_, transport):
            there = target.stack.bridge.port
            with transport.forward("127.0.0.1", there, 0) as here:
                way = Way("on the host", f"http://127.0.0.1:{there}")
                ask(way, Client("127.0.0.1", here, None, key), connect_once=connect_once)
                return way
    except GangwayError as error:
        current.out.say(f"the host cannot be reached either: {error}")
        return None


# --- steps ----------------------------------------------------------------------------------------
def timed(name: str, action: Any) -> Step:
    """A step that gives a text, or fails with an OSError."""
    began = time.monotonic()
    try:
        text = action()
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        return Step(name, time.monotonic() - began, False, str(reason))
    return Step(name, time.monotonic() - began, True, text)


def resolve(host: str) -> str:
    """The addresses of a name."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return ", ".join(sorted({str(one[4][0]) for one in found}))


def accept(host: str, port: int) -> str:
    """A TCP connection."""
    socket.create_connection((host, port), PATIENCE).close()
    return f"port {port} accepts"


def tls(*, trusted: bool) -> ssl.SSLContext:
    """Judges the certificate where a public one is to be expected."""
    context = ssl.create_default_context()
    if not trusted:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def handshake(host: str, port: int, *, trusted: bool) -> str:
    """A TLS connection."""
    with (
        socket.create_connection((host, port), PATIENCE) as plain,
        tls(trusted=trusted).wrap_socket(plain, server_hostname=host) as secure,
    ):
        judged = "trusted certificate" if trusted else "internal certificate, not judged"
        return f"{secure.version()}, {judged}"


class Client:
    """One HTTP client with a key; a connection a request."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, key: str) -> None:
        self._host, self._port, self._context, self._key = host, port, context, key

    def get(self, name: str, path: str, patience: float = PATIENCE) -> Step:
        """A GET as a step."""
        began = time.monotonic()
        connection = (
            http.client.HTTPConnection(self._host, self._port, timeout=patience)
            if self._context is None
            else http.client.HTTPSConnection(
                self._host, self._port, timeout=patience, context=self._context
            )
        )
        try:
            connection.request("GET", path, headers={"X-API-KEY": self._key})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            seconds = time.monotonic() - began
            return Step(name, seconds, False, f"no answer ({type(error).__name__})")
        finally:
            connection.close()
        return judged(name, time.monotonic() - began, answer.status, content)


def judged(name: str, seconds: float, status: int, content: bytes) -> Step:
    """An answer as a step."""
    try:
        body = json.loads(content)
    except ValueError:
        return Step(name, seconds, False, f"{status}, not JSON", status)
    told = body if isinstance(body, dict) else {}
    fine = 200 <= status < 300
    text = told.get("detail") or told.get("state") or told.get("status") or ""
    if "executions" in told:
        text = f"{len(told['executions'])} executions"
    return Step(name, seconds, fine, f"{status} {text}".strip(), status, body)


def ask(way: Way, client: Client, *, connect_once: bool) -> None:
    """ping, health, perhaps one connect, executions."""
    way.steps.append(client.get("ping", "/ping"))
    if not way.fine:
        return
    if connect_once:
        step = client.get("connect", "/health?connect=true", CONNECT_PATIENCE)
        body = step.body if isinstance(step.body, dict) else {}
        fine = step.fine and bool(body.get("connected"))
        text = body.get("lastReconnectError") or step.text
        way.steps.append(Step("connect", step.seconds, fine, text, step.status))
    way.steps.append(client.get("health", "/health?connect=false"))
    way.steps.append(client.get("executions", "/executions"))


class Conclusion(NamedTuple):
    """Whether orders could be placed, and what a person would say."""

    fine: bool
    text: str


def conclusion(found: Diagnosis) -> Conclusion:
    """One answer for all ways."""
    outside = found.ways[0]
    inside = found.ways[1] if len(found.ways) > 1 else None
    if reaches(outside):
        return _bridge(outside)
    broken = next(step for step in outside.steps if not step.fine)
    if inside is None or not reaches(inside):
        if inside is None:
            return Conclusion(False, f"The bridge cannot be reached: {broken.text}.")
        hint = "./deploy.py status and ./deploy.py logs bridge show why."
        return Conclusion(False, f"The bridge does not answer, not even on its host. {hint}")
    said = _bridge(inside)
    return Conclusion(
        False,
        f"The bridge itself answers on its host, but not from outside ({broken.name}: "
        f"{broken.text}). {_outside(broken)} {said.text}",
    )


def reaches(way: Way) -> bool:
    """Whether the bridge answered at all."""
    ping = way.step("ping")
    return ping is not None and ping.fine


def _outside(broken: Step) -> str:
    if broken.name == "name":
        return "The name has no address: make a DNS record for it."
    if broken.name == "tcp":
        return "Nothing accepts on that port: is it open in the provider's firewall?"
    if broken.name == "tls":
        return "The certificate is not there or not trusted: ./deploy.py logs caddy."
    return "Caddy answers, but does not pass it on: ./deploy.py logs caddy."


def _bridge(way: Way) -> Conclusion:
    health = way.step("health")
    if health is None or not health.fine:
        if health is not None and health.status in (401, 403):
            text = "The bridge answers, but does not accept the key: ./deploy.py apikey list."
            return Conclusion(False, text)
        return Conclusion(False, "The bridge answers /ping but not /health: it is overloaded.")
    body: dict[str, Any] = health.body
    connect = way.step("connect")
    if not body.get("connected"):
        why = STATES.get(body.get("state", ""), f"its state is {body.get('state')}")
        tried = f" One attempt now failed: {connect.text}." if connect and not connect.fine else ""
        return Conclusion(False, f"Not connected: {why}.{tried} {body.get('nextAction') or ''}")
    executions = way.step("executions")
    if executions is not None and not executions.fine:
        return Conclusion(False, f"Connected, but executions fail: {executions.text}.")
    if (kept := NO_ORDERS.get(body.get("state", ""))) is not None:
        return Conclusion(False, f"Connected, but {kept}. {body.get('nextAction') or ''}".strip())
    ping = way.step("ping")
    took = f"{ping.seconds * 1000:.0f} ms" if ping else "?"
    mode = body.get("tradingMode")
    return Conclusion(True, f"All is well: connected ({mode}), an answer takes {took}.")
