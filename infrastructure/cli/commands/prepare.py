"""`prepare`: a bare VM becomes ready for `up`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from infrastructure.cli.settings import Settings
    from infrastructure.prepare import StepReport

_MARKS = {"ok": "ok", "would-change": "would change", "changed": "changed", "failed": "FAILED"}


def prepare(
    context: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be changed")
    ] = False,
    firewall: Annotated[
        bool, typer.Option("--firewall/--no-firewall", help="Close all ports but SSH and Caddy's")
    ] = True,
    cloud_init: Annotated[
        bool, typer.Option("--cloud-init", help="Print it as cloud-init user data instead")
    ] = False,
    trust_host_key: Annotated[
        str | None, typer.Option("--trust-host-key", metavar="SHA256:…", help="Accept this key")
    ] = None,
) -> None:
    """Make a bare Debian or Ubuntu machine ready: Docker, swap, clock, firewall and the rest.

    Each step looks first and only does what is missing, so it can be run again at any time.

    \b
    Examples:
      ./deploy.py prepare --dry-run
      ./deploy.py --target prod prepare
      ./deploy.py prepare --cloud-init > user-data.yaml
    """
    from infrastructure.errors import GangwayError, UsageError
    from infrastructure.prepare import cloud_init as document
    from infrastructure.prepare import host_settings, script

    current = settings(context)
    target = current.target()
    if target.stack.runtime == "sandbox":
        raise UsageError(
            "the sandbox needs no preparation",
            hint="./deploy.py up brings it up; name a real target with --target",
        )
    wanted = host_settings(target, firewall=firewall)
    if cloud_init:
        current.out.data(document(wanted))
        current.out.document({"cloudInit": document(wanted)})
        return
    reports = _run(current, script(wanted, dry_run=dry_run), trust_host_key)
    current.out.document(
        {
            "changed": any(report.state in ("changed", "would-change") for report in reports),
            "dryRun": dry_run,
            "steps": [report.as_json() for report in reports],
        }
    )
    failed = [report.step for report in reports if report.state == "failed"]
    if failed:
        raise GangwayError(
            f"{len(failed)} of {len(reports)} steps failed: {', '.join(failed)}",
            hint="mend what the lines above say and run prepare again; what is done stays done",
            code="prepare-failed",
        )


def _run(current: Settings, text: str, trust_host_key: str | None) -> list[StepReport]:
    from infrastructure.prepare import carry_out
    from infrastructure.transport import connect

    reports = []
    with connect(current.target(), trust_host_key) as transport:
        current.out.say(f"preparing {transport.name}")
        for report in carry_out(transport, text):
            reports.append(report)
            detail = f" ({report.detail})" if report.detail else ""
            current.out.say(f"  {_MARKS[report.state]:<13} {report.title}{detail}")
    return reports
