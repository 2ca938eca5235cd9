"""The real Client Portal gateway and the simulated one answer alike while nobody is logged in.

The real program runs in a network namespace of its own, where nothing but loopback is: what it
answers there it answers by itself, and what it would pass on hangs.  The simulator is in the same
state: logged out, and nothing behind it.  What needs a login cannot be compared here.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.conformance.running import ENVIRONMENTS, ROOT, SCRIPTS, absent

pytestmark = pytest.mark.conformance

FOLDER = ENVIRONMENTS / "portal"
PROBE = SCRIPTS / "portal.py"
MAIN = "ibgroup.web.core.clientportal.gw.GatewayStart"
START = """
ip link set lo up
cd "$1/ib-gateway/clientportal.gw"
"$1/java/bin/java" -server -Dvertx.disableDnsResolver=true -Djava.net.preferIPv4Stack=true \
    -cp "root:dist/ibgroup.web.core.iblink.router.clientportal.gw.jar:build/lib/runtime/*" \
    {main} --conf ../root/conf.yaml >"$4/gateway.log" 2>&1 &
gateway=$!
trap 'kill $gateway' EXIT
"$2" "$3" 5000
""".replace("{main}", MAIN)
SECONDS = 120
NAMESPACES = (("unshare", "-n"), ("unshare", "-r", "-n"))


def namespace() -> list[str]:
    """What runs a command without a network; skips when nothing does."""
    if not (FOLDER / ".gangway").exists():
        absent("no Client Portal gateway: run scripts/conformance-envs (needs npm)")
    usable = [list(command) for command in NAMESPACES if shutil.which("ip") and _works(command)]
    if not usable:
        absent("no network namespace can be made: run as root, with util-linux and iproute2")
    return usable[0]


def _works(command: tuple[str, ...]) -> bool:
    if not shutil.which(command[0]):
        return False
    return subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("portal")
    words = [str(FOLDER.resolve()), sys.executable, str(PROBE), str(folder)]
    return _run([*namespace(), "sh", "-euc", START, "sh", *words])


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    ports = [f"--{each}=0" for each in ("port", "portal-port", "control-port")]
    faults = ["--fault=portal-logged-out", "--fault=portal-timeout"]
    command = [sys.executable, "-m", "simulator", *ports, *faults]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["portalPort"]
            return _run([sys.executable, str(PROBE), str(port)])
        finally:
            process.terminate()


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=SECONDS, cwd=Path("/")
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_call_is_answered_alike(real: dict[str, Any], ours: dict[str, Any]) -> None:
    pairs = zip(real["answers"], ours["answers"], strict=True)
    different = [(theirs, mine) for theirs, mine in pairs if theirs != mine]
    assert different == []
    assert sum(each["answer"] is None for each in real["answers"]) > 10


def test_the_certificate_is_of_the_same_kind(real: dict[str, Any], ours: dict[str, Any]) -> None:
    theirs, mine = (
        x509.load_der_x509_certificate(bytes.fromhex(each["secured"]["der"]))
        for each in (real, ours)
    )
    assert real["secured"]["tls"] == ours["secured"]["tls"] == "TLSv1.2"
    assert theirs.subject == mine.subject
    assert theirs.not_valid_before_utc == mine.not_valid_before_utc
    assert theirs.not_valid_after_utc == mine.not_valid_after_utc
    for each in (theirs, mine):
        with pytest.raises(x509.ExtensionNotFound):
            each.extensions.get_extension_for_class(x509.SubjectAlternativeName)
