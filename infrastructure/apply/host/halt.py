"""The kill switch from the host. Runs on the host: standard library, Python 3.9.

Through the bridge when it answers soon, else around it: a mark in its data folder that any bridge
obeys (`bridge.halt_mark`), and a global cancel straight at the gateway's API.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Any

from bridge import halt_mark
from infrastructure.apply.protocol.events import Cancelled, Halted
from infrastructure.health import probes
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from infrastructure.apply.host.store import Store
    from infrastructure.apply.protocol.requests import CancelAllRequest, HaltRequest, ResumeRequest
    from infrastructure.runtime.base import Runtime

BRIDGE_SECONDS = 3.0
"""Within these the bridge has answered, or goes for one that does not."""
GATEWAY_SECONDS = 10.0
CLIENT_IDS = (1_000_017, 1_000_018, 1_000_019)
"""Ours at the gateway; stack.yaml allows none above 999,999 to the bridge."""
VERSIONS = b"v157..178"
BIGGEST = 1_048_576
START_API, GLOBAL_CANCEL, ALL_OPEN_ORDERS = "71", "58", "16"
ERROR, OPEN_ORDER, NEXT_ID, OPEN_ORDERS_END = "4", "5", "9", "53"
ID_IN_USE = "326"
_PATH = "/trading/halt"


def halt(store: Store, request: HaltRequest) -> Halted:
    """Halts, by the bridge or by the mark; needs neither the engine nor the deploy's lock."""
    if store.current() is None:
        raise HostFailure("nothing-deployed", "nothing is deployed here", "./deploy.py up")
    cancel = request.cancel
    body = {
        "reason": request.reason,
        "keepOrders": cancel == "none",
        "everyClient": cancel == "all",
    }
    status, answer = _ask(store, request, "POST", body)
    if status == 200 and isinstance(answer, dict) and answer.get("halted") is True:
        mark = "left"
        if not answer.get("survivesRestart", False):
            mark = _leave(store.base, request)
        _record(store, "halt", "by the bridge", request)
        return Halted("bridge", answer, mark, status)
    mark = _leave(store.base, request)
    _record(store, "halt", "by the mark", request)
    return Halted("mark", answer, mark, status)


def resume(store: Store, request: ResumeRequest) -> Halted:
    """Lifts the halt: the same shape; `mark`: `removed`, or why not."""
    status, answer = _ask(store, request, "DELETE", None)
    lifted = status == 200 and isinstance(answer, dict) and answer.get("halted") is False
    mark = "removed"
    if status == 0 or lifted:  # a bridge that refuses has its reasons, and the mark stays
        try:
            halt_mark.remove(store.base / "data" / "bridge")
        except OSError as error:
            mark = error.strerror or str(error)
    else:
        mark = "kept"
    _record(store, "resume", "by the bridge" if lifted else f"mark {mark}", request)
    return Halted("bridge" if lifted else "mark", answer, mark, status)


def _ask(
    store: Store, request: HaltRequest | ResumeRequest, method: str, body: Any
) -> tuple[int, Any]:
    """The bridge's answer, or (0, None) when there is none in time, however it stalls."""
    said: list[tuple[int, Any]] = []
    key = store.bridge_key()

    def ask() -> None:
        with contextlib.suppress(OSError, ValueError):
            found = probes.bridge(
                *("127.0.0.1", request.bridge_port, _PATH, key, BRIDGE_SECONDS),
                method=method,
                body=body,
            )
            said.append(found)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(BRIDGE_SECONDS)
    return said[0] if said else (0, None)


def _leave(base: Path, request: HaltRequest) -> str:
    """Leaves the mark: `left`, `empty` when there is no room for words, else why it cannot be."""
    folder = base / "data" / "bridge"
    said = {
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "by": "host",
        "reason": request.reason,
        "cancel": request.cancel,
    }
    try:
        found = folder.stat()
        # The bridge must be able to read what root leaves.
        owner = (found.st_uid, found.st_gid) if os.geteuid() == 0 else None
        try:
            halt_mark.write(folder, said, owner)
            left = "left"
        except OSError:
            halt_mark.leave_empty(folder, owner)
            left = "empty"
    except OSError as error:
        return error.strerror or str(error)
    with contextlib.suppress(OSError):
        halt_mark.sync(folder)
    return left


def _record(
    store: Store,
    command: str,
    result: str,
    request: HaltRequest | ResumeRequest | CancelAllRequest,
) -> None:
    with contextlib.suppress(HostFailure, OSError, ValueError):  # a full disk holds up nothing
        store.record(
            command=command,
            release=store.current(),
            result=result,
            reason=getattr(request, "reason", ""),
            by=request.by,
        )


# --- straight at the gateway -------------------------------------------------------------------
def cancel_all(
    store: Store, request: CancelAllRequest, runtime: Callable[[], Runtime]
) -> Cancelled:
    """Cancels every open order of every client; HostFailure when none can have been."""
    address = request.tws_address
    if not address:
        gateway = serving(runtime().containers()).get("gateway")
        if gateway is None or not gateway.addresses:
            raise _unreached("the gateway does not run")
        address = gateway.addresses[0]
    found = global_cancel(address, _relay(store, request))
    _record(store, "halt", f"global cancel, {found.left} left open", request)
    return found


def _relay(store: Store, request: CancelAllRequest) -> int:
    """The port of the only session that was deployed: stack.yaml may say another mode since."""
    with contextlib.suppress(LookupError, ValueError, TypeError):  # a note that is damaged
        (only,) = store.noted(store.current() or "")["checks"]["gateway"]["sessions"]
        return request.relays.get(only, request.tws_port)
    return request.tws_port


def global_cancel(address: str, port: int, seconds: float = GATEWAY_SECONDS) -> Cancelled:
    """A global cancel, and how many orders are open after it (None: the gateway does not say).

    The cancel goes first; what is open is asked afterwards, because that may go unanswered.
    Raises HostFailure when the cancel cannot have gone out.
    """
    until, last = time.monotonic() + seconds, ""
    for client_id in CLIENT_IDS:
        try:
            with Api(address, port, client_id, until) as api:
                if not api.ready():
                    last = f"client id {client_id} is in use"
                    continue
                return api.cancel_everything()
        except (OSError, ValueError) as error:
            last = str(error) or type(error).__name__
            break
    raise _unreached(last)


def _unreached(why: str) -> HostFailure:
    return HostFailure(
        "gateway-unreachable",
        f"the gateway's API cannot be reached: {why}; NO order was cancelled",
        "cancel in TWS, in the Client Portal or on the phone, or call the broker",
    )


class Api:
    """One connection to the TWS API, as far as a cancel needs it."""

    def __init__(self, address: str, port: int, client_id: int, until: float) -> None:
        self._until = until
        self._client_id = client_id
        self._held = b""
        self._errors: list[str] = []
        self._socket = socket.create_connection((address, port), self._left())

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ready(self) -> bool:
        """Shakes hands; False when the client id is in use."""
        self._socket.sendall(b"API\0" + struct.pack(">I", len(VERSIONS)) + VERSIONS)
        version = next(self._messages())
        if not version[0].isdigit():
            raise ValueError("it speaks another language")
        self._send(START_API, "2", str(self._client_id), "")
        for fields in self._messages():
            if fields[0] == NEXT_ID:
                return True
            if fields[0] == ERROR and ID_IN_USE in fields[2:4]:
                return False
        return False

    def cancel_everything(self) -> Cancelled:
        """Sends the cancel, then looks until nothing is open or the time is up."""
        self._send(GLOBAL_CANCEL, "1")
        left = self._open()
        while left and self._left() > 1.0:
            time.sleep(0.2)
            left = self._open()
        return Cancelled(left, self._errors[:5])

    def _open(self) -> int | None:
        """How many orders are open, whosever; None when the gateway does not say in time."""
        count, until = 0, self._until
        self._until = min(until, time.monotonic() + 2.0)
        try:
            self._send(ALL_OPEN_ORDERS, "1")
            for fields in self._messages():
                if fields[0] == OPEN_ORDER:
                    count += 1
                elif fields[0] == OPEN_ORDERS_END:
                    return count
                elif fields[0] == ERROR and len(fields) > 4 and not fields[3].startswith("21"):
                    self._errors.append(" ".join(fields[3:5])[:200])
        except TimeoutError:
            return None
        except (OSError, ValueError) as error:  # the cancel has gone out, whatever comes after it
            self._errors.append(str(error))
            return None
        finally:
            self._until = until
        return None

    def _send(self, *fields: str) -> None:
        content = "".join(f"{field}\0" for field in fields).encode()
        self._socket.settimeout(max(self._left(), 0.1))
        self._socket.sendall(struct.pack(">I", len(content)) + content)

    def _messages(self) -> Iterator[Sequence[str]]:
        """Each message's fields; TimeoutError when the time is up, OSError when it hangs up."""
        while True:
            while len(self._held) >= 4:
                (size,) = struct.unpack(">I", self._held[:4])
                if size > BIGGEST:
                    raise ValueError("it speaks another language")
                if len(self._held) < 4 + size:
                    break
                content, self._held = self._held[4 : 4 + size], self._held[4 + size :]
                yield content.decode("utf-8", "replace").split("\0")
            left = self._left()
            if left <= 0:
                raise TimeoutError("it accepts, but does not answer in time")
            self._socket.settimeout(left)
            try:
                piece = self._socket.recv(65_536)
            except socket.timeout:  # noqa: UP041 - Python 3.9 has two of them
                raise TimeoutError("it accepts, but does not answer in time") from None
            if not piece:
                raise OSError("it hangs up")
            self._held += piece

    def _left(self) -> float:
        return self._until - time.monotonic()
