"""Whether the running JVM has the flags it was meant to have. Pure; standard library, Python 3.9.

Nothing else tells: the image drops lines, its own heap edit can do nothing and still log success,
and Java's errors go to /dev/null.
"""

from __future__ import annotations

import re

_JAVA = re.compile(r"^\S*java(?=\s)")
_MAIN = re.compile(r"ibcalpha\.ibc|standin\.Gateway")


def java_flags(programs: list[str]) -> list[str] | None:
    """The flags of the gateway's JVM among these command lines; None while it does not run."""
    for line in programs:
        if _JAVA.match(line) and _MAIN.search(line):
            return [word for word in line.split()[1:] if word.startswith("-X")]
    return None


def missing_flags(wanted: list[str], found: list[str]) -> list[str]:
    """Wanted flags that did not arrive, and ones that contradict them, in words."""
    effective = {_name(flag): flag for flag in found}
    return [
        f"{flag} (is {effective.get(_name(flag), 'not set')})"
        for flag in wanted
        if effective.get(_name(flag)) != flag
    ]


def _name(flag: str) -> str:
    """What a flag sets: the last one of a name wins, as in Java."""
    collector = re.match(r"-XX:[+-]Use(Serial|G1|Parallel|Z|Shenandoah|Epsilon)GC$", flag)
    if collector:
        return "collector" if flag.startswith("-XX:+") else flag
    short = re.match(r"-X(mx|ms|mn|ss)", flag)
    if short:
        return short[0]
    return re.sub(r"^-XX:[+-]?", "", flag).partition("=")[0]
