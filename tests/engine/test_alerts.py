"""A deploy that fails, and a cold restart that waits for 2FA, reach a real receiver."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.engine.parts.engine import docker
from tests.engine.parts.receiver import Receiver
from tests.engine.parts.stack import Run, Stack

APPROVED = "/tmp/approved"
WAIT = 12


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture(scope="module")
def watched(make_stack: Callable[[str], Stack], receiver: Receiver) -> Stack:
    """Its login asks for a second factor, and its alerts go to the receiver."""
    stack = make_stack("alerts")
    urls = stack.folder / "urls"
    urls.write_text(receiver.address)
    urls.chmod(0o600)
    stack.settings["gateway"] |= {"username": "twofa", "two_factor": {"wait": 60}}
    stack.settings["alerts"] = {"urls": [{"file": str(urls)}]}
    approve_when_asked(stack, "up", "--yes")
    stack.settings["gateway"]["two_factor"] = {"wait": WAIT}
    return stack


@pytest.fixture(autouse=True)
def _nothing_received(receiver: Receiver) -> None:
    receiver.received.clear()


def approve_when_asked(stack: Stack, *arguments: str) -> Run:
    """Runs a command; a person approves as soon as it says that one is waited for."""
    process = stack.start(*arguments)
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "waiting for 2FA" in line:
            docker("exec", stack.container("gateway")["Id"], "touch", APPROVED)
            break
    out, rest = process.communicate(timeout=100)
    done = Run(process.returncode, out, "".join(said) + rest, 0)
    assert done.code == 0, done.err
    assert "waiting for 2FA: approve on IBKR Mobile" in done.err
    return done


def forget_approval(stack: Stack) -> None:
    docker("exec", stack.container("gateway")["Id"], "rm", "-f", APPROVED)


def test_a_cold_restart_waits_for_2fa_and_tears_nothing_down(
    watched: Stack, receiver: Receiver
) -> None:
    forget_approval(watched)
    before = watched.started()
    late = watched.deploy("restart", "gateway", "--cold", "--yes")
    assert late.code == 4, late.err
    assert "2FA: approval expected" in late.err
    assert "waiting for 2FA: approve on IBKR Mobile" in late.err
    assert "nothing was torn down" in late.err
    after = watched.started()
    assert {name: one[0] for name, one in after.items()} == {
        name: one[0] for name, one in before.items()
    }
    assert after["bridge"] == before["bridge"]
    assert after["gateway"][1] != before["gateway"][1]
    assert watched.container("gateway")["State"]["Running"]
    assert watched.deploy("status", "--json").document["login"]["state"] == "waiting-2fa"
    assert watched.ledger()[-1]["result"] == "waiting-2fa"
    receiver.wait("The gateway waits for your approval (2FA)")

    done = approve_when_asked(watched, "restart", "gateway", "--cold", "--yes", "--json")
    assert done.document["healthy"] is True
    assert done.document["sessionKept"] is False
    assert watched.ledger()[-1]["result"] == "healthy"
    receiver.wait("The gateway no longer waits for an approval")


def test_a_deploy_that_was_undone_is_told(watched: Stack, receiver: Receiver) -> None:
    watched.password("wrong")
    done = watched.up("--json", code=1)
    watched.password("correct")
    message = receiver.wait("A deploy failed")
    assert message["type"] == "failure"
    assert "`up` of release" in message["message"]
    assert "IBKR does not accept the user name or password" in message["message"]
    assert done.document["error"] == "bad-credentials"
    receiver.wait("The gateway's login was refused")


def test_a_failure_is_told_also_when_the_bridge_does_not_run(
    watched: Stack, receiver: Receiver
) -> None:
    bridge = watched.container("bridge")["Id"]
    docker("stop", bridge)
    try:
        done = watched.deploy("restart", "gateway", "--cold", "--yes")
        assert done.code == 1
        message = receiver.wait("A deploy failed", 1)  # it was sent before the command ended
        assert "`restart gateway`" in message["message"]
        assert "nobody could be told" not in done.err
        assert watched.container("bridge")["Id"] == bridge, "the helper is gone"
    finally:
        docker("start", bridge)


def test_nothing_is_told_of_what_a_person_stopped(watched: Stack, receiver: Receiver) -> None:
    process = watched.start("restart", "bridge")
    assert process.stderr is not None
    process.stderr.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    time.sleep(2)
    assert not [one for one in receiver.received if one["title"].endswith("A deploy failed")]
