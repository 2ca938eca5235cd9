"""The doctor's checks and the redaction, on evidence made up for them."""

import base64
import copy
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infrastructure.apply.host.facts import size
from infrastructure.apply.protocol.events import Facts, Status
from infrastructure.cli.commands.doctor import run
from infrastructure.config import Target
from infrastructure.config.sandbox import sandbox as make_target
from infrastructure.doctor.evidence import Evidence, Finding, Redactor, where
from infrastructure.doctor.host_checks import reach
from infrastructure.errors import HostUnreachable
from infrastructure.plan.observed import Observed

GOOD: dict[str, Any] = {
    "host": {
        "time": 0.0,
        "uid": 0,
        "system": "Debian",
        "machine": "x86_64",
        "memory": {"total": 1 << 20, "available": 400_000},
        "swap": {"total": 1 << 20, "free": 900_000},
        "disk": {"total": 30 << 20, "free": 20 << 20},
        "oomKills": 0,
        "synchronized": True,
        "exposed": [],
    },
    "engine": {"engine": "27.1", "compose": "2.29", "services": {}},
    "gateway": {"browser": None, "flags": None, "missing": [], "resident": 0},
    "certificate": None,
    "secrets": [],
    "settings": {"owner": None, "files": {}},
    "pending": None,
    "releases": ["a1"],
}


def states(change: Any = None, **more: Any) -> dict[str, str]:
    facts = copy.deepcopy(GOOD)
    if change is not None:
        change(facts)
    evidence = Evidence(facts=Facts(**facts), observed=Observed("a1"), skew=0.0, open_ports=[])
    for name, value in more.items():
        setattr(evidence, name, value)
    found = sorted(run(evidence), key=lambda finding: ("ok", "warn", "fail").index(finding.state))
    return {finding.check: finding.state for finding in found}  # the worst of each check


def test_a_good_host_has_nothing_to_mend() -> None:
    assert set(states().values()) == {"ok"}


@pytest.mark.parametrize(
    ("path", "value", "check", "state"),
    [
        (("host", "disk", "free"), 1000, "disk", "fail"),
        (("host", "disk", "free"), 1 << 20, "disk", "warn"),
        (("host", "memory", "available"), 1000, "memory", "warn"),
        (("host", "swap", "total"), 0, "swap", "fail"),
        (("host", "oomKills"), 3, "oom", "warn"),
        (("host", "synchronized"), False, "clock", "warn"),
        (("host", "exposed"), [4002], "ports", "warn"),
        (("engine", "compose"), "1.29.2", "docker", "fail"),
        (("secrets",), ["releases/a1/secrets/tws-password"], "secret modes", "fail"),
        (("pending",), {"release": "b2"}, "release", "fail"),
    ],
)
def test_each_trouble_is_found(path: tuple[str, ...], value: Any, check: str, state: str) -> None:
    def change(facts: dict[str, Any]) -> None:
        for name in path[:-1]:
            facts = facts[name]
        facts[path[-1]] = value

    assert states(change)[check] == state


@pytest.mark.parametrize(
    ("why", "state"),
    [("it answers with status 502", "fail"), ("", "ok"), (None, None)],
)
def test_a_bridge_that_nobody_outside_reaches_is_found(why: str | None, state: str | None) -> None:
    status = Status({"state": "logged-in"}, [], None, why)  # type: ignore[typeddict-item]
    assert states(status=status).get("outside") == state


def test_the_clock_and_open_ports() -> None:
    assert states(skew=-30.0)["clock"] == "fail"
    assert states(open_ports=[5900])["ports"] == "fail"


@pytest.mark.parametrize(
    ("machine", "lacks", "state"),
    [
        ("aarch64", None, "warn"),
        ("x86_64", ["libnss3.so"], "warn"),
        ("x86_64", [], "ok"),
        ("x86_64", None, None),
    ],
)
def test_a_passkey_that_could_not_be_given_is_told_beforehand(
    make: Callable[..., Target], machine: str, lacks: list[str] | None, state: str | None
) -> None:
    def change(facts: dict[str, Any]) -> None:
        facts["host"]["machine"], facts["gateway"]["browser"] = machine, lacks

    assert states(change, target=make()).get("passkey") == state


def test_a_wrong_clock_is_told_with_what_it_costs(make: Callable[..., Target]) -> None:
    target = make(gateway={"two_factor": {"totp": {"i_accept_one_factor": True}}})
    evidence = Evidence(facts=Facts(**copy.deepcopy(GOOD)), skew=-30.0, target=target)
    [clock] = [found for found in run(evidence) if found.check == "clock"]
    assert clock.state == "fail"
    assert "refuses codes" in clock.text


def test_a_host_out_of_reach_is_one_finding() -> None:
    gone = Evidence(unreached=HostUnreachable("no answer", hint="is it on?"))
    found = {finding.check: finding for finding in run(gone)}
    assert found["connection"].state == "fail"
    assert found["connection"].mend == "is it on?"


def test_redaction() -> None:
    clean = Redactor(["s3cret-value"], {"vm.example.net": "<host>", "demo": "<user>"})
    text = clean("demo at vm.example.net: U1234567 DU7654321 s3cret-value 203.0.113.9 127.0.0.1")
    assert text == "<user> at <host>: <account> <account> <secret> <ip> 127.0.0.1"
    assert clean('{"X-API-KEY": "abc.def"}') == '{"X-API-KEY": "<secret>"}'
    assert clean("demonstration") == "demonstration"
    assert clean('to "sftp://me@nas:22/srv/b"') == 'to "sftp://<address>/srv/b"'
    key = base64.b64encode(b"x").decode()
    assert clean(f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----") == "<key>"


def with_domain(**more: Any) -> dict[str, Finding]:
    target = make_target()
    caddy = target.stack.caddy.model_copy(update={"domain": "trade.example.org"})
    target = dataclasses.replace(target, stack=target.stack.model_copy(update={"caddy": caddy}))
    evidence = Evidence(target=target, resolved=["203.0.113.7"], host_addresses=["203.0.113.7"])
    for name, value in more.items():
        setattr(evidence, name, value)
    return {finding.check: finding for finding in reach(evidence)}


@pytest.mark.parametrize(
    ("reached", "addresses", "state", "mend"),
    [
        ({80: True, 443: True}, ["203.0.113.7"], "ok", ""),
        ({80: False, 443: True}, ["203.0.113.7"], "fail", "firewall: open port 80"),
        ({80: False, 443: False}, ["203.0.113.7"], "fail", "firewall: open 80 and 443"),
        ({80: False, 443: False}, ["198.51.100.1"], "fail", "DNS: "),
    ],
)
def test_a_closed_door_is_told_from_a_wrong_name(
    reached: dict[int, bool], addresses: list[str], state: str, mend: str
) -> None:
    found = with_domain(reached=reached, host_addresses=addresses)["reach"]
    assert found.state == state
    assert found.mend.startswith(mend)


@pytest.mark.skipif(shutil.which("ssh") is None, reason="there is no ssh here")
def test_where_ssh_goes_is_looked_up_as_ssh_does(
    make: Callable[..., Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias has no address of its own: to try its ports would find all of them closed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host myvm\n  HostName 127.0.0.1\n")
    assert where(make(host="me@myvm").stack.host) == "127.0.0.1"
    assert where(make(host="me@203.0.113.7").stack.host) == "203.0.113.7"


def test_without_an_address_nothing_is_said_to_be_tried(make: Callable[..., Target]) -> None:
    target = make(host="me@myvm", caddy={"domain": "trade.example.org"})
    facts = Facts(**copy.deepcopy(GOOD))
    evidence = Evidence(
        target=target, facts=facts, resolved=["203.0.113.7"], reached={80: True, 443: False}
    )
    found = {finding.check: finding for finding in run(evidence)}
    assert "tried from here" in found["ports"].text
    assert "no address that can be" in found["ports"].text
    assert found["dns"].state == "ok"
    assert found["reach"].mend.startswith("firewall: open port 443")


def test_http_is_told_from_the_tws_api(make: Callable[..., Target]) -> None:
    def told(**sections: Any) -> str:
        evidence = Evidence(target=make(**sections), facts=Facts(**copy.deepcopy(GOOD)))
        evidence.open_ports = [4002]
        found = {finding.check: finding for finding in run(evidence)}
        assert "and no HTTP" in found["ports"].text
        return found["api"].text

    shown = told(host="me@vm", gateway={"publish_api": "127.0.0.1:4002"})
    assert shown.startswith("HTTP is spoken at https://vm alone; 127.0.0.1:4002 on the host is")
    assert "tunnel api" in told(host="me@vm")


def test_what_fills_the_disk_is_named() -> None:
    facts = copy.deepcopy(GOOD)
    facts["host"]["disk"]["free"] = 1000
    facts["fills"] = {"/var/log": 5 << 20, "/opt/gangway/x/data/gateway": 9 << 20, "/tmp": 0}
    [found] = [one for one in run(Evidence(facts=Facts(**facts))) if one.check == "disk"]
    assert found.mend.startswith("/opt/gangway/x/data/gateway 9.0 GB, /var/log 5.0 GB; ")


def test_the_size_of_a_folder_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(bytes(100_000))
    assert size(str(tmp_path)) >= 96
    assert size(str(tmp_path / "none")) == 0
