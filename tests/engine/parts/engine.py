"""Where `make engine` put the private Docker Engine, and whether it answers."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
ENGINE_HOME = Path(os.environ.get("GANGWAY_ENGINE_DIR") or _CACHE / "gangway-engine")
ENGINE_HOST = f"unix://{ENGINE_HOME}/docker.sock"
GATEWAY_IMAGE = "ghcr.io/gnzsnz/ib-gateway:stable"


def docker(*arguments: str, check: bool = True, timeout: float = 120) -> str:
    """Runs the docker command against the private engine; its standard output."""
    done = subprocess.run(
        ["docker", *arguments],
        env=os.environ | {"DOCKER_HOST": ENGINE_HOST},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


@cache
def engine_missing() -> str | None:
    """Why the engine tests cannot run here, with the command that would change it."""
    hint = "(Debian/Ubuntu, root: make engine)"
    if not shutil.which("docker") or not shutil.which("sshd", path="/usr/sbin:/usr/bin"):
        return f"no Docker Engine or SSH server on this machine {hint}"
    if not Path(ENGINE_HOST.removeprefix("unix://")).exists():
        return f"no private Docker Engine at {ENGINE_HOME} {hint}"
    try:
        docker("image", "inspect", GATEWAY_IMAGE, timeout=20)
    except (AssertionError, subprocess.TimeoutExpired):
        return f"the private Docker Engine does not answer, or lacks its images {hint}"
    return None
