"""What the host knows of itself and the stack. Runs on the host: standard library, Python 3.9."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from infrastructure.apply.protocol import documents, encoding, events
from infrastructure.health import probes
from infrastructure.runtime import plain_files
from infrastructure.runtime.containers import serving

if TYPE_CHECKING:
    from infrastructure.apply.host.store import Store
    from infrastructure.runtime.base import Container, Runtime

CLOSED = (4001, 4002, 4003, 4004, 5900, 8080, 14003, 14004)
"""Ports that nobody outside may reach."""
BROWSER = ("libnss3.so", "libatk-bridge-2.0.so.0", "libgbm.so.1", "libasound.so.2")
LISTENING = "0A"
SCARCE = 2 << 30
"""Bytes that are left; below them the doctor warns, too."""


def collect(store: Store, runtime: Runtime, checks: documents.Checks) -> events.Facts:
    """All of it, sizes in KB."""
    from infrastructure.apply.host import scheduled

    found = serving(runtime.containers())
    engine = encoding.read(documents.EngineFacts, runtime.facts())
    return events.Facts(
        host=host(store.base),
        engine=engine,
        gateway=gateway(runtime, found.get("gateway"), engine, checks.get("gateway", {})),
        certificate=certificate(checks.get("caddy", {})) if "caddy" in found else None,
        secrets=loose_secrets(store.base),
        settings=settings(store.base),
        pending=store.pending(),
        releases=store.kept(),
        fills=fills(store.base),
        backup=scheduled.facts(store.base),
        moved=store.moved(),
    )


FILLING = ("/var/lib/docker", "/var/log", "/var/cache/apt", "/tmp")  # noqa: S108
LOOKED_AT = 20_000


def fills(base: Path) -> dict[str, int]:
    """What may fill the disk, in KB: our own folders, and those that usually do.

    Only looked at while room is scarce, and never at more than `LOOKED_AT` names of one folder.
    """
    disk = shutil.disk_usage(base if base.exists() else "/")
    if disk.free > SCARCE:
        return {}
    ours = [str(path) for path in (base / "data").glob("*")]
    return {path: size(path) for path in (*ours, str(base / "releases"), *FILLING)}


def size(folder: str) -> int:
    """The KB below a folder, on its own file system."""
    total, seen, waiting = 0, 0, [folder]
    with contextlib.suppress(OSError):
        device = os.lstat(folder).st_dev
        while waiting and seen < LOOKED_AT:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    found = entry.stat(follow_symlinks=False)
                    total += found.st_blocks // 2
                    if entry.is_dir(follow_symlinks=False) and found.st_dev == device:
                        waiting.append(entry.path)
    return total


def host(base: Path) -> documents.HostFacts:
    """Memory, swap, disk, clock, kernel."""
    memory = table(Path("/proc/meminfo"))
    known = base
    while not known.exists():
        known = known.parent
    disk = shutil.disk_usage(known)
    return {
        "time": time.time(),
        "uid": os.getuid(),
        "system": system(),
        "machine": os.uname().machine,
        "memory": {
            "total": memory.get("MemTotal", 0),
            "available": memory.get("MemAvailable", 0),
        },
        "swap": {"total": memory.get("SwapTotal", 0), "free": memory.get("SwapFree", 0)},
        "disk": {"total": disk.total // 1024, "free": disk.free // 1024},
        "load": os.getloadavg()[0],
        "oomKills": table(Path("/proc/vmstat")).get("oom_kill"),
        "synchronized": Path("/run/systemd/timesync/synchronized").exists() or chrony(),
        "exposed": exposed(),
    }


def table(path: Path) -> dict[str, int]:
    """`Name: 12 kB` or `name 12` lines."""
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.replace(":", " ").split()
            if len(words) > 1 and words[1].isdigit():
                found[words[0]] = int(words[1])
    return found


def system() -> str:
    """The name of the host's distribution, as /etc/os-release has it."""
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("PRETTY_NAME="):
                return line[12:].strip('"')
    return ""


def chrony() -> bool:
    """Whether another clock daemon runs."""
    return any(Path(path).exists() for path in ("/run/chrony/chronyd.pid", "/run/ntpd.pid"))


def exposed() -> list[int]:
    """Those of `CLOSED` that something listens on beyond loopback."""
    open_ports = set()
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                address, _, port = words[1].partition(":")
                if words[3] == LISTENING and not loopback(address):
                    open_ports.add(int(port, 16))
    return sorted(open_ports & set(CLOSED))


def loopback(address: str) -> bool:
    """Whether an address of /proc/net/tcp is 127.0.0.0/8, ::1, or 127.0.0.0/8 written as IPv6."""
    return address[-2:] == "7F" if len(address) == 8 else address in LOOPBACK_6


LOOPBACK_6 = ("00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


def lacking(libraries: set[str]) -> list[str] | None:
    """What a Chromium cannot do without, and is not there; None when nothing is known."""
    return [name for name in BROWSER if name not in libraries] if libraries else None


def gateway(
    runtime: Runtime,
    container: Container | None,
    engine: documents.EngineFacts,
    check: documents.Check,
) -> documents.GatewayFacts:
    """The JVM as it runs and whether the API answers."""
    if container is None or not container.running:
        nothing: documents.GatewayFacts = {
            "browser": None,
            "flags": None,
            "missing": [],
            "resident": 0,
            "api": False,
            "said": "not running",
        }
        return nothing
    processes = engine["services"].get("gateway", {}).get("processes", [])
    lines = [item["line"] for item in processes]
    flags = probes.java_flags(lines)
    resident = [item["rss"] for item in processes if probes.java_flags([item["line"]]) is not None]
    passed, said = runtime.probe(container, 10)
    wanted = check.get("jvm", [])
    return {
        "browser": lacking(runtime.libraries(container)),
        "flags": flags,
        "missing": probes.missing_flags(wanted, flags) if flags is not None else [],
        "resident": sum(resident),
        "api": passed,
        "said": said,
    }


def certificate(check: documents.Check) -> str | None:
    """Caddy's certificate, DER in base64; None when there is no TLS."""
    import ssl  # takes long to load, and is for a Caddy that runs

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError, ValueError):
        address = (check["address"], check["port"])
        with (
            socket.create_connection(address, 3) as plain,
            context.wrap_socket(plain, server_hostname=check["name"]) as secure,
        ):
            return base64.b64encode(secure.getpeercert(True) or b"").decode()
    return None


def loose_secrets(base: Path) -> list[str]:
    """Secrets of any release that more than their reader can open."""
    places = [*base.glob("releases/*/secrets/*"), *base.glob("scheduled/*")]
    return [
        str(path.relative_to(base))
        for path in sorted(places)
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]


def settings(base: Path) -> documents.SettingsFacts:
    """The gateway's settings folder: its owner, and jts.ini as it is used."""
    folder = base / "data" / "gateway"
    found: documents.SettingsFacts = {"owner": None, "files": {}}
    with contextlib.suppress(OSError):
        found["owner"] = folder.stat().st_uid
        for path in sorted(folder.glob("*/jts.ini")):
            name = path.parent.name
            with contextlib.suppress(FileNotFoundError):  # the container's own: perhaps a link
                text = plain_files.beginning_of(folder, f"{name}/jts.ini", 20_000)
                found["files"][name] = text
    return found
