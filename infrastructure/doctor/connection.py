"""The way to the host: SSH, host key, sudo, Python there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Whether commands run on the host, and as whom."""
    if evidence.unreached is not None:
        error = evidence.unreached
        yield Finding("connection", "fail", error.message, error.hint)
    elif evidence.facts is not None and evidence.target is not None:
        host = evidence.facts["host"]
        if evidence.target.local:
            yield Finding("connection", "ok", f"this machine, {host['system']}")
            return
        who = "root" if host["uid"] == 0 else f"user {host['uid']}"
        address = evidence.target.stack.host.address
        text = f"{address} by SSH, its key is trusted, as {who}, {host['system']}"
        if host["uid"] != 0:
            mend = "allow `sudo -n` for the login, so that secrets can belong to their reader"
            yield Finding("connection", "warn", text, mend)
        else:
            yield Finding("connection", "ok", text)
