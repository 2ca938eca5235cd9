"""`doctor`: one line a check, each failure with its mend."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.settings import settings

if TYPE_CHECKING:
    from infrastructure.doctor.evidence import Evidence, Finding


def doctor(
    context: typer.Context,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="FILE", help="Write a redacted archive (.tar.gz)"),
    ] = None,
) -> int:
    """Check this machine, the way to the host, the host and the running stack.

    One line a check, ok, warn or fail, each with its mend. Exit code 1 when one fails. --bundle
    writes what was found, logs and configuration to an archive for a bug report, without secrets,
    account numbers, names and addresses.

    \b
    Examples:
      ./deploy.py doctor
      ./deploy.py --target prod doctor --bundle report.tar.gz
    """
    from infrastructure.doctor.evidence import gather, write_bundle

    current = settings(context)
    if bundle is not None:
        from infrastructure.files import refuse_existing

        refuse_existing(bundle)
    evidence = gather(current)
    findings = run(evidence)
    failed = any(finding.state == "fail" for finding in findings)
    name = evidence.target.name if evidence.target else None
    document: dict[str, object] = {
        "target": name,
        "ok": not failed,
        "checks": [finding.as_json() for finding in findings],
    }
    ticks = _ticks(evidence)
    if ticks:
        document["checklist"] = list(ticks)
    names = [] if bundle is None else write_bundle(current, evidence, document, bundle)
    current.out.document(document)
    for line in lines(findings):
        current.out.row(line)
    for tick in ticks:
        current.out.row(f"[ ]   {tick}")
    if names:
        current.out.say(f"wrote {bundle}: {', '.join(names)}; read it before you hand it on")
    return 1 if failed else 0


def _ticks(evidence: Evidence) -> tuple[str, ...]:
    """What to look at in the account, while no login has succeeded."""
    from bridge.login import states
    from infrastructure.doctor.stack_checks import CHECKLIST

    if evidence.target is None or evidence.sandbox:
        return ()
    logins = evidence.status.logins if evidence.status else []
    done = logins and all(one["state"] == states.LOGGED_IN for one in logins)
    return () if done else CHECKLIST


def run(evidence: Evidence) -> list[Finding]:
    """What every check finds, from here to the far end."""
    from infrastructure.doctor.host_checks import HOST_CHECKS
    from infrastructure.doctor.stack_checks import STACK_CHECKS

    return [one for check in (*HOST_CHECKS, *STACK_CHECKS) for one in check(evidence)]


def lines(findings: list[Finding]) -> list[str]:
    """The findings for people."""
    width = max((len(finding.check) for finding in findings), default=0)
    shown = []
    for one in findings:
        shown.append(f"{one.state:<4}  {one.check:<{width}}  {one.text.strip()}")
        if one.mend and one.state != "ok":
            shown.append(f"{'':<{width + 6}}  -> {one.mend}")
    return shown
