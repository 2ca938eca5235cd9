"""`up [--only SERVICE] [--yes] [--wait SECONDS]`: deploy, and wait until it is really healthy.

On the sandbox it ends with where the page and the API are, and lines to try them with.
"""

from __future__ import annotations

import dataclasses
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.cli import several, whereabouts
from infrastructure.cli.app import Wait, Yes, confirm
from infrastructure.cli.commands.completion import services
from infrastructure.cli.settings import Settings, settings
from infrastructure.cli.several import All
from infrastructure.program import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.apply.session import Outcome
    from infrastructure.cli.host import Planned
    from infrastructure.config import Target
    from infrastructure.plan.compute import Plan


def up(
    context: typer.Context,
    only: Annotated[
        str | None,
        typer.Option(
            "--only", metavar="SERVICE", help="Touch only this service", autocompletion=services
        ),
    ] = None,
    yes: Yes = False,
    wait: Wait = None,
    lock_wait: Annotated[
        float,
        typer.Option(
            "--lock-wait", min=0, max=3600, metavar="SECONDS", help="Wait for another deploy's end"
        ),
    ] = 0.0,
    every: All = False,
) -> int | None:
    """Deploy the stack and wait until it is really healthy.

    Pushes the release, starts what changed, and waits: container, JVM flags, login, 2FA, API,
    bridge, Caddy. When that fails, the previous release is put back. Waiting for a 2FA approval is
    no failure: after its own time it ends with exit code 4, and nothing is torn down.

    With --only no other service is touched or waited for; plan goes on to show what it left. With
    --all, or several names in --target, hosts are deployed at once, but those whose plan expects a
    second factor one after the other.

    \b
    Examples:
      ./deploy.py up
      ./deploy.py --target prod up --only bridge --yes
      ./deploy.py up --all
    """
    from infrastructure.apply.checks import checks_alone
    from infrastructure.apply.session import HEALTHY_WITHIN
    from infrastructure.cli.host import planned

    current = settings(context)
    current.lock_wait = lock_wait
    if names := several.chosen(current, every):
        return several.up(current, names, yes=yes)
    verify = None if only else wait or HEALTHY_WITHIN
    with planned(current, lock=True, verify=verify) as found:
        plan = narrowed(found.plan, only)
        if found.target.stack.runtime == "sandbox":
            from infrastructure.config import sandbox

            sandbox.keep(found.target)
        gate = checks_alone(found.target, only, found.observed) if only else None
        show(current, found, plan)
        gateway = found.observed.services.get("gateway")
        runs = gateway is not None and gateway.state == "running"
        left = None if runs else whereabouts.left_behind(found.target)
        if left is not None:
            current.out.warn(left)
        with (
            failing(current, {**plan.as_json(), "release": found.observed.release}),
            noting(found.target),
        ):
            if plan.changed:
                if worth_asking(plan) or left is not None:
                    confirm(current, yes=yes)
                outcome = found.session.apply(plan, found.release, wait=wait, gate=gate)
            else:
                outcome = found.session.verified(found.release, wait=wait, gate=gate)
    current.out.document(document(plan, outcome.release, outcome))
    current.out.say(closing(plan, outcome))
    for line in ailing(outcome):
        current.out.say(line)
    if found.target.stack.runtime == "sandbox":
        show_addresses(current, found.target)
    return None


def narrowed(plan: Plan, only: str | None) -> Plan:
    """The plan with every other service left alone."""
    from infrastructure.errors import UsageError
    from infrastructure.plan.forecast import KEPT

    if only is None:
        return plan
    names = [change.service for change in plan.changes]
    if only not in names:
        raise UsageError(f"there is no service '{only}'", hint=f"one of {', '.join(names)}")
    kept = tuple(
        change
        if change.service == only
        else dataclasses.replace(change, action="unchanged", cause="left alone (--only)", diff="")
        for change in plan.changes
    )
    login = any(change.fresh_login and change.action != "unchanged" for change in kept)
    return dataclasses.replace(
        plan,
        changes=kept,
        forecast=plan.forecast if login else KEPT,
    )


def show(current: Settings, found: Planned, plan: Plan) -> None:
    """The plan, before anything happens."""
    from infrastructure.cli.plan_view import lines

    if found.session.pending:
        began = found.session.pending.get("release")
        current.out.say(f"an earlier deploy (release {began}) did not end; this one completes it")
    for line in lines(plan, diffs=current.verbose):
        current.out.say(line)


def worth_asking(plan: Plan) -> bool:
    """Whether it costs an approval of what runs already, or removes a part."""
    costly = plan.forecast.expected and plan.previous is not None
    return costly or any(change.action == "remove" for change in plan.changes)


def document(plan: Plan, release: str | None, result: Any) -> dict[str, object]:
    """The shape of the contract: the plan's, plus how it ended."""
    return {**plan.as_json(), "release": release, **ending(result)}


def ending(result: Any) -> dict[str, object]:
    """How work on a stack ended, well or not: the end of every such command's document."""
    return {
        "healthy": getattr(result, "healthy", False),
        "restored": result.restored,
        "seconds": getattr(result, "seconds", None),
        **({"workers": dict(result.workers)} if getattr(result, "workers", None) else {}),
        **({"error": result.code, "message": result.message} if hasattr(result, "code") else {}),
    }


@contextmanager
def failing(current: Settings, document: dict[str, Any]) -> Iterator[None]:
    """What fails in the block completes the document, which is shown with the error."""
    from infrastructure.errors import DeployFailed

    try:
        yield
    except DeployFailed as error:
        current.out.document({**document, **ending(error)})
        error.reported = True
        raise


@contextmanager
def noting(target: Target) -> Iterator[None]:
    """What the block has started is known to run there, also while its login waits."""
    from infrastructure.errors import WaitingForPerson

    try:
        yield
    except WaitingForPerson:
        whereabouts.note(target)
        raise
    whereabouts.note(target)


def require_worker(outcome: Outcome, name: str) -> None:
    """Raises DeployFailed when the worker that a command was about does not run as it should."""
    from infrastructure.errors import DeployFailed

    if why := outcome.workers.get(name):
        log = f"./deploy.py logs {name}"
        raise DeployFailed(f"worker {name}: {why}", hint=log, code="worker-ends")


def ailing(outcome: Outcome) -> list[str]:
    """A line for each worker that does not run as it should."""
    return [
        f"but worker {name}: {why} (./deploy.py logs {name})"
        for name, why in outcome.workers.items()
    ]


def closing(plan: Plan, outcome: Outcome) -> str:
    """The last line for a person."""
    if not plan.changed:
        return f"healthy; nothing changed (release {outcome.release})"
    return f"healthy after {outcome.seconds:.0f} s (release {outcome.release})"


def links(target: Target) -> dict[str, str]:
    """The addresses of the sandbox, and its first key's file."""
    from infrastructure.render.caddy import public

    stack, base = target.stack, Path(target.base)
    return {
        "page": f"http://127.0.0.1:{stack.bridge.port}/",
        "api": f"{public(target)}/",
        "authority": str(base / "data/caddy/caddy/pki/authorities/local/root.crt"),
        "keyFile": str(_key_file(target)),
        "faults": f"http://127.0.0.1:{stack.simulated.control_port}/faults",
    }


def _key_file(target: Target) -> Path:
    """Where the first key lies: in the store, else in the release, which always has it."""
    from infrastructure.config import secrets
    from infrastructure.release_files import ADMIN_KEY_FILE

    reference = target.stack.bridge.admin_key
    if not reference.command and (stored := secrets.path_of(target, reference)).is_file():
        return stored
    return Path(target.base) / "current" / ADMIN_KEY_FILE


def curl_lines(target: Target) -> list[str]:
    """Three requests that work when pasted into a shell, from this folder."""
    found = links(target)
    key = f'-H "X-API-KEY: $(cat {_short(found["keyFile"])})"'
    secure = f"--cacert {_short(found['authority'])}"
    return [
        f"curl -s {found['page']}ping",
        f"curl -s {key} {found['page']}health",
        f"curl -s {secure} {key} {found['api']}quote/AAPL",
    ]


def show_addresses(current: Settings, target: Target) -> None:
    """The table, the key and the lines, on stderr."""
    found = links(target)
    rows = {
        "status page": found["page"],
        "API key": Path(found["keyFile"]).read_text().strip(),
        "API by TLS": found["api"],
        "its authority": _short(found["authority"]),
        "faults": f"{found['faults']}, or the buttons on the page",
        "stop it": "make down"
        if target.file is None and not INSTALLED
        else f"./deploy.py --target {target.name} down",
    }
    for name, value in rows.items():  # plain lines: a key that a table cuts off is no use
        current.out.say(f"{name:<13}  {value}")
    current.out.say("try it:")
    for line in curl_lines(target):
        current.out.say(f"  {line}")


def _short(path: str) -> str:
    """Relative to the current folder when it lies below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
