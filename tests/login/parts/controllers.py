"""The real login controllers and what they run on: a Java compiler, Xvfb, and their packages."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
IMAGE = PROJECT / "tests" / "engine" / "images" / "gateway"
ENVIRONMENT = PROJECT / ".venv-controllers"


@cache
def controllers_missing() -> str | None:
    """Why the tests with the real controllers cannot run here, with what would change it."""
    for program in ("javac", "Xvfb", "envsubst", "x11vnc", "socat"):
        if not shutil.which(program):
            return f"no {program} on this machine (make engine)"
    if not (ENVIRONMENT / ".gangway").exists():
        return "the login controllers are not installed (make engine, or scripts/controllers)"
    return None


def packages() -> Path:
    """The folder of the installed packages, as the image's layout script takes it."""
    return next(ENVIRONMENT.glob("lib/python3*/site-packages"))


def compile_standin(folder: Path) -> Path:
    """Our program in place of IBKR's, as one jar."""
    sources = sorted(str(path) for path in (IMAGE / "java").rglob("*.java"))
    classes = folder / "classes"
    subprocess.run(["javac", "-Werror", "-Xlint:all", "-d", str(classes), *sources], check=True)
    jar = folder / "standin.jar"
    subprocess.run(["jar", "--create", "--file", str(jar), "-C", str(classes), "."], check=True)
    return jar


def java_home() -> Path:
    """The folder that holds bin/java, as IBKR's installer writes it into inst_jre.cfg."""
    return Path(shutil.which("java") or "/usr/bin/java").resolve().parents[1]


class Display:
    """An X server of the tests' own, without a window manager, as in the image."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self._process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-ac", "-screen", "0", "1024x768x16"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as pipe:
            self.name = f":{pipe.readline().strip()}"

    def stop(self) -> None:
        """Ends it; programs that still show windows lose their display."""
        self._process.terminate()
        self._process.wait(10)
