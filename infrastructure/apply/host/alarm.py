"""Tells people, by way of the bridge, what became of a deploy. Standard library, Python 3.9.

The host tells, not the laptop: a deploy that fails after the lid was closed is the one that
somebody has to hear of. The running bridge sends, so that one place keeps the limits; where none
answers, its program is run once beside it, with the same addresses.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from bridge.login import states
from infrastructure.apply.protocol import documents, events
from infrastructure.health import probes
from infrastructure.health.pressure import Budget
from infrastructure.release_files import ALERTS_FILE
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import serving

if TYPE_CHECKING:
    from bridge.login.model import Login
    from infrastructure.apply.host.store import Store
    from infrastructure.apply.host.wire import Wire
    from infrastructure.runtime.base import Runtime

OK = 200
ASIDE_SECONDS = 60.0
BRIDGE_STARTS_WITHIN = 20.0
LONGEST = 1000
"""Characters of a text that the bridge takes."""


class Alarm:
    """For the length of one operation; without addresses it does nothing.

    `checks` are those of the request: they name the bridge's port.
    """

    def __init__(
        self, store: Store, runtime: Runtime, wire: Wire, checks: documents.Checks
    ) -> None:
        self._current, self._key = store.base / "current", store.bridge_key
        self._runtime = runtime
        self._wire = wire
        self._port = checks.get("bridge", {}).get("port")

    @property
    def _wanted(self) -> bool:
        return (self._current / ALERTS_FILE).exists()

    def failed(self, what: str, by: str, failure: HostFailure, then: str) -> None:
        """An operation failed; `then` says what is so now."""
        text = f"{what} by {by}: {failure.message}.\n\n{then}\n{failure.hint}".strip()
        self._tell("deploy-failed", text)

    def newer(self, text: str) -> None:
        """A registry has something newer than what runs."""
        self._tell("newer-image", text)

    def waiting(self, login: Login) -> None:
        """The login waits for a person. A bridge that runs sees and tells it by itself."""
        if not self._wanted:
            return
        hint = login.trouble.hint if login.trouble else ""
        what = f"{login.told[0].upper()}{login.told[1:]}. {hint}".strip()
        event = "login-blocked" if login.state == states.BLOCKED else "waiting-2fa"
        threading.Thread(target=self._wait_and_tell, args=(what, event), daemon=True).start()

    def _wait_and_tell(self, what: str, event: str) -> None:
        budget = Budget(BRIDGE_STARTS_WITHIN, clock=time)
        while budget.left > 0:
            if self._ask("GET", "/ping") == OK:
                return
            time.sleep(1)
        text = f"{what}\n\nThe bridge does not run, and cannot say when it is done."
        self._aside(event, text)

    def _tell(self, event: str, text: str) -> None:
        if not self._wanted:
            return
        body = {"event": event, "text": text[:LONGEST]}
        if self._ask("POST", "/alerts", body) != OK:
            self._aside(event, text)

    def _ask(self, method: str, path: str, body: Any = None) -> int:
        """The status; 0 when no bridge answers."""
        try:
            container = serving(self._runtime.containers()).get("bridge")
        except Exception:
            return 0
        if container is None or not container.running:
            return 0
        address, port = probes.reach(container, self._port)
        status, _ = probes.bridge(address, port, path, self._key(), method=method, body=body)
        return status

    def _aside(self, event: str, text: str) -> None:
        """Says so when it fails; an operation never fails for it."""
        sent, said = False, ""
        try:
            sent, said = self._runtime.aside(
                "bridge", ["alerts", "tell", event], text, ASIDE_SECONDS
            )
        except Exception as error:
            said = str(HostFailure.of(error))
        if not sent:
            lines = said.strip().splitlines()
            reason = f": {lines[-1]}" if lines else ""
            self._wire.emit(events.Step(f"nobody could be told of it{reason}"))
