"""The client's side of what an operator does with a running stack, on the same one connection."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from infrastructure.apply.checks import checks
from infrastructure.apply.session import HEALTHY_WITHIN, Outcome, Session, person
from infrastructure.errors import GangwayError
from infrastructure.release_files import ADMIN_KEY_FILE
from infrastructure.render.layout import COMMAND_PORTS, RELAY_PORTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.plan.compute import Plan
    from infrastructure.render.model import Release


class OperatorSession(Session):
    """A session with the operator's requests."""

    _shown = False

    def replace_bridge(
        self,
        plan: Plan,
        release: Release,
        *,
        fresh: bool,
        logged_in: bool,
        wait: float | None = None,
    ) -> Outcome:
        """Builds the bridge (`fresh`: without cached layers) and puts it into service alone.

        `logged_in`: the gateway can serve, so the bridge has to connect to be healthy.
        """
        known = checks(self._target, ("bridge", "caddy"))
        return self.apply(
            plan,
            release,
            fresh=fresh,
            wait=wait,
            command="rebuild" if fresh else "sync",
            gate=known if logged_in else {"bridge": {}},
        )

    def restart(
        self, service: str, *, cold: bool, wait: float | None = None
    ) -> tuple[Outcome, bool]:
        """Restarts one service; the outcome, and whether the gateway kept its session.

        Raises:
            WaitingForPerson: the new login was not approved in time; it goes on waiting.
            DeployFailed: it did not become healthy.
        """
        names = [service, *(["bridge"] if service == "gateway" else [])]
        self._send(
            op="restart",
            service=service,
            cold=cold,
            commandPorts=[COMMAND_PORTS[mode] for mode in self._target.stack.sessions],
            checks=checks(self._target, names),
            wait=wait or HEALTHY_WITHIN,
            by=person(),
        )
        outcome = self._outcome()
        return outcome, bool(self.last.get("kept"))

    def logs(
        self, services: list[str], *, since: str, lines: int, follow: bool
    ) -> Iterator[dict[str, Any]]:
        """`{service, time, text}` in order; with `follow` until the services end."""
        self._send(op="logs", services=services, since=since, lines=lines, follow=follow)
        return self._each("line")

    def going_back(self, release: str) -> dict[str, Any]:
        """`{"release", "previous", "changes": {service: action}}` of a rollback; changes nothing.

        Raises:
            DeployFailed: there is no such release on the host.
        """
        return self.ask("going_back", op="going_back", release=release)

    def roll_back(self, release: str, *, wait: float | None = None) -> Outcome:
        """Serves an earlier release again, or leaves the present one serving."""
        self._send(op="roll_back", release=release, wait=wait or HEALTHY_WITHIN, by=person())
        return self._outcome()

    def ask_bridge(
        self, method: str, path: str, body: Any = None, *, seconds: float = 10.0
    ) -> tuple[int, Any, float]:
        """Status (0: no answer), decoded body and seconds of a request with the first key."""
        answer = self.ask(
            "ask_bridge",
            op="ask_bridge",
            method=method,
            path=path,
            body=body,
            seconds=seconds,
            bridgePort=self._target.stack.bridge.port,
            keyFile=ADMIN_KEY_FILE,
        )
        return answer["status"], answer["body"], answer["seconds"]

    @contextmanager
    def screen(self, password: str) -> Iterator[tuple[str, int]]:
        """The gateway's screen by VNC: address and port as the host reaches them.

        It is turned off at the end of the block, and by the host itself when we are gone.
        """
        found = self.ask("screen", op="screen", password=password)
        self._shown = True
        try:
            yield found["address"], found["port"]
        finally:
            self._hide()

    def _hide(self) -> None:
        if self._shown:
            with contextlib.suppress(GangwayError):
                self._send(op="cancel")
                self._events = self._read()  # an interrupt has ended the one that was being read
                self._until("done")

    def watch_screen(self) -> None:
        """Returns when the VNC server has ended on its own; meant to be interrupted."""
        self._until("done", None)
        self._shown = False

    # --- the kill switch ------------------------------------------------------------------------
    def halt(self, cancel: str, reason: str) -> dict[str, Any]:
        """Halts trading, with the bridge or around it (`apply.host.halt`); needs no `begin`."""
        return self.ask("halted", op="halt", cancel=cancel, reason=reason, **self._where())

    def resume(self) -> dict[str, Any]:
        """Lifts the halt; the same shape."""
        return self.ask("resumed", op="resume", **self._where())

    def cancel_all(self) -> dict[str, Any]:
        """A global cancel from the host straight to the gateway: `{"left", "errors"}`.

        Raises:
            DeployFailed: it cannot have gone out.
        """
        stack, sandbox = self._target.stack, self._target.stack.runtime == "sandbox"
        port = stack.simulated.tws_port if sandbox else RELAY_PORTS[stack.session]
        return self.ask(
            "cancelled",
            op="cancel_all",
            twsAddress="127.0.0.1" if sandbox else "",
            twsPort=port,
            **self._where(),
        )

    def _where(self) -> dict[str, Any]:
        return {
            "base": str(self._target.base),
            "project": self._target.project,
            "runtime": self._target.stack.runtime,
            "bridgePort": self._target.stack.bridge.port,
            "by": person(),
        }

    def address(self, service: str) -> str:
        """Where the host reaches a service's container on the stack's private network."""
        return str(self.ask("address", op="address", service=service)["address"])

    def facts(self) -> dict[str, Any]:
        """All that the host knows of itself and of the stack, for `status` and `doctor`."""
        return self.ask(
            "facts",
            op="facts",
            bridgePort=self._target.stack.bridge.port,
            keyFile=ADMIN_KEY_FILE,
            checks=checks(self._target, ("gateway", "caddy")),
        )

    def _each(self, name: str) -> Iterator[dict[str, Any]]:
        from infrastructure.apply.session import failure

        for event in self._events:
            if event["event"] == name:
                yield event
            elif event["event"] == "failed":
                raise failure(event, self._target)
            elif event["event"] == "done":
                return
            else:
                self._listener.event(event)
