"""From here to the host: configuration, programs, connection, the machine itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infrastructure.cli.output import megabytes
from infrastructure.config.secrets import UNMADE, missing
from infrastructure.config.terms import TWS_PORTS
from infrastructure.doctor.evidence import CLOSED, Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.doctor.evidence import Check


def config(evidence: Evidence) -> Iterator[Finding]:
    """Every problem of the configuration, or that there is none."""
    if evidence.broken is not None:
        for problem in evidence.broken.problems():
            place = f"{problem.place}: " if problem.place else ""
            yield Finding("config", "fail", f"{place}{problem.message}", problem.hint)
        return
    if evidence.target is None:
        return
    for problem in evidence.target.warnings:
        yield Finding("config", "warn", f"{problem.place or ''} {problem.message}", problem.hint)
    lacking = missing(evidence.target)
    known = {problem.message for problem in lacking}
    found = evidence.unrendered.problems() if evidence.unrendered is not None else []
    more = [one for one in found if one.message not in known and one.code != UNMADE]
    for problem in [*lacking, *(more if evidence.unresolved else [])]:
        yield Finding("secrets", "fail", problem.message, problem.hint)
    for problem in more if not evidence.unresolved else []:
        yield Finding("config", "fail", problem.message, problem.hint)
    if not lacking and not more:
        yield Finding("config", "ok", f"target {evidence.target.name} is valid, its secrets there")


def tools(evidence: Evidence) -> Iterator[Finding]:
    """Python, and Docker where images are built here."""
    yield Finding("tools", "ok", f"Python {evidence.tools.get('python')}")
    here = evidence.target is not None and evidence.target.stack.bridge.build == "local"
    if here and evidence.tools.get("docker") is None:
        mend = "install or start Docker here (`docker version`), or set bridge.build: remote"
        text = "bridge.build is local, but no Docker Engine answers here"
        yield Finding("tools", "fail", text, mend)
    elif here:
        yield Finding("tools", "ok", f"Docker {evidence.tools['docker']} builds the bridge here")
    if evidence.sandbox and evidence.tools.get("caddy") is None:
        yield Finding("tools", "fail", "there is no Caddy in the environment", "make setup")


def connection(evidence: Evidence) -> Iterator[Finding]:
    """Whether commands run on the host, and as whom."""
    if evidence.unreached is not None:
        error = evidence.unreached
        yield Finding("connection", "fail", error.message, error.hint)
    elif evidence.facts is not None and evidence.target is not None:
        host = evidence.facts.host
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


OLDEST_ENGINE, OLDEST_COMPOSE = 20, 2
PREPARE = "./deploy.py prepare makes the host ready"


def docker(evidence: Evidence) -> Iterator[Finding]:
    """That both answer, and are not too old."""
    if evidence.facts is None or evidence.sandbox:
        return
    engine = evidence.facts.engine
    for name, version, oldest in (
        ("Docker Engine", engine["engine"], OLDEST_ENGINE),
        ("Docker Compose", engine["compose"], OLDEST_COMPOSE),
    ):
        number = re.match(r"v?(\d+)", version or "")
        if number is None:
            yield Finding("docker", "fail", f"{name} does not answer", PREPARE)
        elif int(number[1]) < oldest:
            text = f"{name} is {version}; {oldest} or newer is needed"
            yield Finding("docker", "fail", text, PREPARE)
        else:
            yield Finding("docker", "ok", f"{name} {version}")


FULL, SCARCE_DISK = 512 * 1024, 2 * 1024 * 1024
FREE_SPACE = "docker image prune frees space; `up` keeps five releases"


def disk(evidence: Evidence) -> Iterator[Finding]:
    """Enough for a build, the logs and the ledger."""
    if evidence.facts is None:
        return
    disk = evidence.facts.host["disk"]
    text = f"{megabytes(disk['free'])} of {megabytes(disk['total'])} free"
    biggest = sorted(evidence.facts.fills.items(), key=lambda one: -one[1])[:3]
    named = ", ".join(f"{path} {megabytes(size)}" for path, size in biggest if size)
    mend = f"{named}; {FREE_SPACE}" if named else FREE_SPACE
    if disk["free"] < FULL:
        yield Finding("disk", "fail", text, mend)
    elif disk["free"] < SCARCE_DISK:
        yield Finding("disk", "warn", text, mend)
    else:
        yield Finding("disk", "ok", text)


LATE = 2.0
"""Times the interval; `bridge.alerts.host_watch` tells people from there on."""


def backups(evidence: Evidence) -> Iterator[Finding]:
    """Whether the schedule of backups is kept, if there is one."""
    from infrastructure.cli.status_view import backup_words

    found = evidence.facts.backup if evidence.facts else None
    if found is None or evidence.facts is None:
        return
    age = evidence.facts.host["time"] - (found["succeededAt"] or found["since"])
    if not -found["every"] <= age <= LATE * found["every"]:  # one of the future says nothing
        mend = "on the host: journalctl -u 'gangway-*-backup'; ./deploy.py backup --to … does one"
        yield Finding("backups", "fail", backup_words(found), mend)
    elif found["failedAt"]:
        mend = "it is tried again by itself; ./deploy.py backup --to … does one now"
        yield Finding("backups", "warn", backup_words(found), mend)
    else:
        yield Finding("backups", "ok", backup_words(found))


SCARCE_MEMORY = 48 * 1024
SMALL_MACHINE, SWAP_WANTED = 1536 * 1024, 900 * 1024


def memory(evidence: Evidence) -> Iterator[Finding]:
    """What is available now, and swap where the machine is small."""
    if evidence.facts is None:
        return
    memory, swap = evidence.facts.host["memory"], evidence.facts.host["swap"]
    text = f"{megabytes(memory['available'])} of {megabytes(memory['total'])} available"
    if memory["available"] < SCARCE_MEMORY:
        mend = "limits: in stack.yaml, a larger machine, or swap (./deploy.py prepare)"
        yield Finding("memory", "warn", text, mend)
    else:
        yield Finding("memory", "ok", text)
    used = swap["total"] - swap["free"]
    if memory["total"] < SMALL_MACHINE and swap["total"] < SWAP_WANTED:
        text = f"{megabytes(swap['total'])} of swap; a 1 GB machine needs 1 GB"
        yield Finding("swap", "fail", text, "./deploy.py prepare makes a swap file")
    else:
        yield Finding("swap", "ok", f"{megabytes(used)} of {megabytes(swap['total'])} used")


def oom(evidence: Evidence) -> Iterator[Finding]:
    """The kernel's own count since the machine started; on the sandbox it says nothing of us."""
    if evidence.facts is None or evidence.sandbox:
        return
    kills = evidence.facts.host["oomKills"]
    if kills is None:
        yield Finding("oom", "warn", "the kernel does not count out-of-memory kills")
    elif kills:
        text = f"{kills} processes were killed for want of memory since the machine started"
        yield Finding("oom", "warn", text, "journalctl -k | grep -i oom shows which; see limits:")
    else:
        yield Finding("oom", "ok", "nothing was killed for want of memory")


TOLERATED = 2.0


def clock(evidence: Evidence) -> Iterator[Finding]:
    """Compared with this machine's clock."""
    if evidence.facts is None or evidence.skew is None or evidence.sandbox:
        return
    skew = evidence.skew
    mend = "timedatectl set-ntp true there (or here); ./deploy.py prepare sets it up"
    if abs(skew) > TOLERATED:
        side = "ahead of" if skew > 0 else "behind"
        text = f"the host is {abs(skew):.1f} s {side} this machine"
        if evidence.target is not None and evidence.target.stack.gateway.two_factor.totp:
            text += "; IBKR refuses codes (two_factor.totp) by a clock that is wrong"
        yield Finding("clock", "fail", text, mend)
    elif not evidence.facts.host["synchronized"]:
        text = f"right within {TOLERATED:.0f} s, but nothing keeps it so"
        yield Finding("clock", "warn", text, mend)
    else:
        yield Finding("clock", "ok", f"right within {TOLERATED:.0f} s, and kept so")


def dns(evidence: Evidence) -> Iterator[Finding]:
    """Its addresses, compared with those of the host."""
    if evidence.target is None or evidence.target.stack.caddy.domain is None:
        return
    domain = evidence.target.stack.caddy.domain
    if not evidence.resolved:
        mend = f"make an A record for {domain} with the host's public address"
        yield Finding("dns", "fail", f"{domain} has no address", mend)
    elif not evidence.host_addresses:
        text = f"{domain} leads to {', '.join(evidence.resolved)}; where SSH goes has no address"
        yield Finding("dns", "ok", text)
    elif set(evidence.resolved) & set(evidence.host_addresses):
        yield Finding("dns", "ok", f"{domain} leads to {', '.join(evidence.resolved)}")
    else:
        text = f"{domain} leads to {', '.join(evidence.resolved)}, "
        text += f"SSH goes to {', '.join(evidence.host_addresses)}"
        yield Finding("dns", "warn", text, "right if the host has another public address")


CLOSE_PORTS = "close them in the provider's firewall; ./deploy.py prepare sets the host's own"


def reach(evidence: Evidence) -> Iterator[Finding]:
    """Whether the world gets to Caddy by its domain: what the certificate's authority needs."""
    if evidence.target is None or evidence.reached is None or not evidence.resolved:
        return
    domain = evidence.target.stack.caddy.domain
    closed = sorted(port for port, is_open in evidence.reached.items() if not is_open)
    if not closed:
        yield Finding("reach", "ok", f"{domain} answers on 80 and 443, tried from here")
        return
    shown = " and ".join(map(str, closed))
    if evidence.host_addresses and not set(evidence.resolved) & set(evidence.host_addresses):
        mend = "DNS: the name does not lead to the host that SSH goes to"
    elif len(closed) == 1:
        mend = f"firewall: open port {shown} at the provider (./deploy.py prepare opens the host's)"
    else:
        mend = "firewall: open 80 and 443 at the provider; or ./deploy.py status: does Caddy run?"
    yield Finding("reach", "fail", f"{domain} does not answer on {shown}, tried from here", mend)


def ports(evidence: Evidence) -> Iterator[Finding]:
    """As tried from here, and as the host's own listeners say."""
    if evidence.facts is None or evidence.sandbox:
        return
    doors = set()  # Caddy's, which may be on one of those that else nobody should reach
    if evidence.target is not None:
        caddy = evidence.target.stack.caddy
        doors = {caddy.http_port, caddy.https_port}
    listening = [port for port in evidence.facts.host["exposed"] if port not in doors]
    tried = evidence.open_ports
    if tried is not None:
        tried = [port for port in tried if port not in doors]
    if tried:
        text = f"reachable from here: {', '.join(map(str, tried))}"
        if set(tried) & set(TWS_PORTS):
            text += "; 4001 to 4004 speak the TWS API without a password, and no HTTP"
        yield Finding("ports", "fail", text, CLOSE_PORTS)
    elif listening:
        text = f"something on the host listens on {', '.join(map(str, listening))} to the world"
        yield Finding("ports", "warn", text, CLOSE_PORTS)
    elif tried is None:
        local = evidence.target is None or evidence.target.local or evidence.host_addresses
        why = "it is this machine" if local else "it has no address that can be tried from here"
        yield Finding("ports", "ok", f"closed, as the host sees it ({why})")
    else:
        shown = ", ".join(str(port) for port in CLOSED if port not in doors)
        yield Finding("ports", "ok", f"{shown} are closed, tried from here")


def api(evidence: Evidence) -> Iterator[Finding]:
    """Where HTTP is spoken and where it is not: the first thing that clients get wrong."""
    if evidence.target is None or evidence.sandbox:
        return
    from infrastructure.render.caddy import public

    tws = evidence.target.stack.gateway.publish_api
    text = f"HTTP is spoken at {public(evidence.target)} alone; "
    text += f"{tws} on the host" if tws else "what ./deploy.py tunnel api opens"
    yield Finding("api", "ok", f"{text} is the TWS API, which is no HTTP")


HOST_CHECKS: tuple[Check, ...] = (
    config,
    tools,
    connection,
    docker,
    disk,
    backups,
    memory,
    oom,
    clock,
    dns,
    reach,
    ports,
    api,
)
"""In the order in which they are shown."""
