"""The program of `apply.host` as bytes that a bare `python3` on the host can run.

The modules travel as their sources, under their own names: nothing is installed on the host, and
what runs there is always of the same version as what talks to it.
"""

from __future__ import annotations

import json
import sys
import zlib
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "bridge/login",
    "infrastructure/apply/host",
    "infrastructure/health",
    "infrastructure/observe",
    "infrastructure/runtime",
)

FILES = ("bridge/halt_mark.py",)

LOADER = """
import json, sys, zlib
from importlib.machinery import ModuleSpec
source = json.loads(zlib.decompress(sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))))
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


START = """
python=/usr/bin/python3
[ -x $python ] || python=python3
command -v $python >/dev/null || { echo "python3: not found" >&2; exit 127; }
[ "$1" = plain ] || [ "$(id -u)" = 0 ] || exec sudo -n -- $python -I -S -u -c "$2"
exec $python -I -S -u -c "$2"
"""
"""The system's own interpreter first: a version manager's shim in PATH takes a quarter second."""


def command(*, sudo: bool) -> list[str]:
    """The command that reads `program()` from standard input and becomes it."""
    return ["sh", "-c", START.strip(), "sh", "sudo" if sudo else "plain", LOADER.strip()]


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
    packed = zlib.compress(json.dumps(modules).encode(), 9)
    return f"{len(packed)}\n".encode() + packed
