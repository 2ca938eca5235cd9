"""Whether the gateway's image is the pinned one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """By digest where one is pinned; a tag is told with its digest."""
    if evidence.facts is None or evidence.target is None or evidence.sandbox:
        return
    service = evidence.facts["engine"]["services"].get("gateway")
    if service is None:
        return
    wanted, found = evidence.target.stack.gateway.image, service["digests"]
    shown = found[0].rpartition("@")[2][:19] if found else "of no registry"
    if "@" not in wanted:
        mend = "pin it: gateway.image with @sha256:…, so that a pull changes nothing by itself"
        yield Finding("image", "ok", f"{wanted} ({shown}); a tag can move", mend)
    elif any(one.endswith(wanted.rpartition("@")[2]) for one in found):
        yield Finding("image", "ok", "the pinned digest runs")
    else:
        yield Finding("image", "fail", f"another image runs: {shown}", "./deploy.py up")
