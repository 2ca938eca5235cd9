"""What travels to the host, as bytes: its program, and the release.

The program's modules travel as their sources, under their own names: a bare `python3` runs them,
nothing is installed on the host, and what runs there is always of the same version as what talks
to it. The release is a tar in memory: secrets never touch this machine's disk.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import zlib
from functools import cache
from typing import TYPE_CHECKING

from infrastructure import kept
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from infrastructure.plan.observed import ObservedFile
    from infrastructure.render.model import Release


FOLDERS = (
    "bridge/login",
    "infrastructure/apply/host",
    "infrastructure/apply/protocol",
    "infrastructure/health",
    "infrastructure/runtime",
)

FILES = (
    "bridge/halt_mark.py",
    "infrastructure/release_files.py",
)

_READ = "sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))"
LOADER = f"""
import json, sys, zlib
from importlib.machinery import ModuleSpec
source = json.loads(zlib.decompress({_READ}))
class Loader:
    def find_spec(self, name, path, target=None):
        if name in source:
            return ModuleSpec(name, self, is_package=source[name][0])
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        code = compile(source[module.__name__][1], "<gangway>/" + module.__name__, "exec")
        exec(code, module.__dict__)
sys.meta_path.insert(0, Loader())
from infrastructure.apply.host.main import main
main()
"""


START = (
    "python=/usr/bin/python3; [ -x $python ] || python=python3; "
    'command -v $python >/dev/null || { echo "python3: not found" >&2; exit 127; }; '
    '[ "$1" = plain ] || [ "$(id -u)" = 0 ] || exec sudo -n -- $python -I -S -u -c "$2"; '
    'exec $python -I -S -u -c "$2"'
)
"""The system's own interpreter first: a version manager's shim in PATH takes a quarter second."""


def command(*, sudo: bool) -> list[str]:
    """The command that reads `program()` from standard input and becomes it.

    Without an end of line, an exclamation mark or a backslash: csh and fish take each of them for
    something else, also between quotes.
    """
    name = "  # infrastructure.apply.host.main"  # what a list of processes shows
    loader = f'exec(bytes.fromhex("{LOADER.strip().encode().hex()}"))' + name
    return ["sh", "-c", START, "sh", "sudo" if sudo else "plain", loader]


LOCAL = """
import sys
sys.path.insert(0, sys.argv[1])
from infrastructure.apply.host.main import main
main()
"""


def local_command() -> list[str]:
    """The same program in this project's own environment, for the sandbox; it reads no sources."""
    return [sys.executable, "-I", "-u", "-c", LOCAL.strip(), str(PROJECT)]


@cache
def program() -> bytes:
    """What the loader reads: a length, then the compressed sources."""
    packed = base64.b85decode(
        kept.once("program", (), lambda: base64.b85encode(_packed()).decode())
    )
    return f"{len(packed)}\n".encode() + packed


def _packed() -> bytes:
    modules: dict[str, tuple[bool, str]] = {
        "bridge": (True, ""),
        "infrastructure": (True, ""),
        "infrastructure.apply": (True, ""),
    }
    paths = [PROJECT / file for file in FILES]
    for folder in FOLDERS:
        paths += sorted((PROJECT / folder).glob("*.py"))
    for path in paths:
        name = path.relative_to(PROJECT).with_suffix("").as_posix().replace("/", ".")
        package = name.endswith(".__init__")
        modules[name.removesuffix(".__init__")] = (package, path.read_text("utf-8"))
    return zlib.compress(json.dumps(modules).encode(), 9)


def scheduled_program() -> str:
    """The same program as one file for `python3 FILE JOB BASE`: what the host starts by itself."""
    packed = base64.b85encode(program().partition(b"\n")[2]).decode()
    loader = LOADER.replace(_READ, f"base64.b85decode({packed!r})")
    loader = loader.replace("host.main import main", "host.scheduled import main")
    return f"import base64\n{loader.lstrip()}"


def pack(release: Release, without: Collection[str] = ()) -> bytes:
    """The files of the release but those `without`; owners are set on the host (`owners`)."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
        for item in release.files:
            if item.path in without:
                continue
            entry = tarfile.TarInfo(item.path)
            entry.size, entry.mode = len(item.content), item.mode
            tar.addfile(entry, io.BytesIO(item.content))
    return buffer.getvalue()


def owners(release: Release) -> dict[str, int]:
    """Path to uid, of files that must not belong to whoever unpacks them."""
    return {item.path: item.uid for item in release.files if item.uid is not None}


def reused(release: Release, known: Mapping[str, ObservedFile]) -> dict[str, int]:
    """Path to mode, of files that lie in the host's current release with the same content.

    They do not travel: a changed source of the bridge is a few kilobytes.
    """
    return {
        item.path: item.mode
        for item in release.files
        if item.path in known and known[item.path].digest == item.digest
    }
