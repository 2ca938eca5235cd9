"""Whether the domain leads to the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Its addresses, compared with those of the host."""
    if evidence.target is None or evidence.target.stack.caddy.domain is None:
        return
    domain = evidence.target.stack.caddy.domain
    if not evidence.resolved:
        mend = f"make an A record for {domain} with the host's public address"
        yield Finding("dns", "fail", f"{domain} has no address", mend)
    elif set(evidence.resolved) & set(evidence.host_addresses):
        yield Finding("dns", "ok", f"{domain} leads to {', '.join(evidence.resolved)}")
    else:
        text = f"{domain} leads to {', '.join(evidence.resolved)}, "
        text += f"SSH goes to {', '.join(evidence.host_addresses) or 'no address'}"
        yield Finding("dns", "warn", text, "right if the host has another public address")
