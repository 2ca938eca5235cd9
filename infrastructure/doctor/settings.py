"""The gateway's settings folder, and jts.ini as it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding
from infrastructure.render.model import CONTAINER_UID

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(evidence: Evidence) -> Iterator[Finding]:
    """Its owner, the time zone, and that only this machine is trusted."""
    if evidence.facts is None or evidence.target is None or evidence.sandbox:
        return
    found = evidence.facts["settings"]
    if found["owner"] is None:
        return
    if found["owner"] != CONTAINER_UID:
        text = f"the settings folder belongs to user {found['owner']}, not {CONTAINER_UID}"
        yield Finding("settings", "fail", text, "./deploy.py up gives it to the right one")
    zone = evidence.target.stack.gateway.time_zone
    for name, text in found["files"].items():
        yield from _file(name, values(text), zone)
    if not found["files"]:
        yield Finding("settings", "warn", "there is no jts.ini yet", "it comes with a first start")


def _file(name: str, found: dict[str, str], zone: str) -> Iterator[Finding]:
    if found.get("TimeZone") != zone:
        text = f"{name}/jts.ini has time zone {found.get('TimeZone')!r}, wanted is {zone}"
        yield Finding("settings", "fail", text, "./deploy.py restart gateway --cold mends it")
    elif found.get("TrustedIPs", "127.0.0.1") != "127.0.0.1":
        text = f"{name}/jts.ini trusts {found['TrustedIPs']}"
        yield Finding("settings", "warn", text, "only 127.0.0.1 needs to be trusted")
    else:
        yield Finding("settings", "ok", f"{name}/jts.ini is used, time zone {zone}")


def values(text: str) -> dict[str, str]:
    """`Name=value` lines, whatever their section."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
