"""The doctor's checks and the redaction, on evidence made up for them."""

import base64
import contextlib
import copy
import dataclasses
import datetime as dt
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import infrastructure.cli.host as cli_host
import infrastructure.doctor.evidence as evidence_module
from infrastructure.apply.host.facts import size
from infrastructure.apply.protocol.events import Facts, Status
from infrastructure.cli.commands.doctor import run
from infrastructure.cli.settings import Settings
from infrastructure.cli.status_view import lines as lines_of_status
from infrastructure.config import Target, secrets
from infrastructure.config.sandbox import sandbox as make_target
from infrastructure.doctor.evidence import Evidence, Finding, gather, tools, where, write_bundle
from infrastructure.doctor.host_checks import reach
from infrastructure.doctor.redaction import Redactor, masked, redactor
from infrastructure.doctor.stack_checks import _login as login_finding
from infrastructure.doctor.stack_checks import certificate, drift
from infrastructure.errors import HostUnreachable
from infrastructure.plan.compute import Plan
from infrastructure.plan.observed import Observed
from infrastructure.release_files import ADMIN_KEY
from infrastructure.render.model import Release

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
    evidence.plan = Plan("a1", "a1", ())
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


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("from 2001:db8::7: reset by peer", "from <ip>: reset by peer"),
        ("dial [2001:DB8::7]:8080.", "dial [<ip>]:8080."),
        ("peer:2001:db8:1:2:3:4:5:6:443", "peer:<ip>:443"),
        ("2001:db8::/32, fe80::1%eth0", "<ip>/32, <ip>"),
        ("::ffff:203.0.113.9 is 203.0.113.9", "<ip> is <ip>"),
        ("[::]:443, ::1, ::ffff:127.0.0.1", "[::]:443, ::1, ::ffff:127.0.0.1"),
        ("12:34:56 2026-01-31T09:00:00Z", "12:34:56 2026-01-31T09:00:00Z"),
        ("aa:bb:cc:dd:ee:ff std::bad :443", "aa:bb:cc:dd:ee:ff std::bad :443"),
    ],
)
def test_addresses_of_both_kinds_are_taken_out_and_times_stay(said: str, left: str) -> None:
    assert Redactor((), {})(said) == left


def test_what_a_log_writes_otherwise_is_taken_out_as_well() -> None:
    clean = Redactor(['pa\\ss"wörd'], {"alice": "<user>", "alice.example.net": "<host>"})
    for text in ('pa\\ss"wörd', json.dumps('pa\\ss"wörd'), 'pa\\\\ss\\"wörd'):
        assert clean(text).strip('"') == "<secret>"
    assert (
        clean("ALICE at Alice.Example.net, account DUK123456")
        == "<user> at <host>, account <account>"
    )


PRIVATE = {
    *("carol", "dave", "vm.example.net", "keeper", "door.example.net", "trade.lan", "me@example"),
    *("bob", "erin", "px-4711", "on", "disc-0815", "--key=tok-1", "vault/x", "frank@laptop"),
    *("2001:db8::5", "ABC-9", "judy", "old.example.net"),
}


def test_a_report_holds_nothing_that_it_promises_to_leave_out(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    target = make(
        host={
            "address": "vm.example.net",
            "user": "dave",
            "identity": "~/.ssh/id",
            "jump": "keeper@door.example.net:22,judy@old.example.net",
        },
        gateway={
            "username": "carol",
            "password": {"command": "op read vault/x"},
            "environment": {"PROXY_TOKEN": "px-4711", "SHORT": "on"},
        },
        caddy={"names": ["trade.lan", "2001:db8::5"], "email": "me@example.org"},
        portal={"enabled": True, "username": "bob"},
        trading={"allow_accounts": ["ABC-9"]},
        profile="standard",
        workers={
            "one": {
                "image": "scan:1",
                "command": "scan --key=tok-1",
                "environment": {"DISCORD_TOKEN": "disc-0815"},
            }
        },
    )
    said = (
        "carol CAROL Bob dave vm.example.net door.example.net keeper judy old.example.net trade.lan"
        " px-4711 disc-0815 ABC-9 2001:db8::5 me@example.org"
    )
    file = tmp_path / "report.tar.gz"
    write_bundle(Settings(), Evidence(target=target), {"checks": [{"text": said}]}, file)
    with tarfile.open(file) as tar:
        found = {name: tar.extractfile(name) for name in tar.getnames()}
        texts = {name: one.read().decode() for name, one in found.items() if one}
    whole = "\n".join(texts.values())
    assert [one for one in PRIVATE - {"on"} if one.lower() in whole.lower()] == []
    shown = json.loads(texts["gangway-report/config.json"])
    assert shown["gateway"]["environment"] == {"PROXY_TOKEN": "<value>", "SHORT": "<value>"}
    assert shown["gateway"]["password"]["command"] == ["op", "<argument>", "<argument>"]
    assert shown["workers"]["one"]["command"] == ["scan", "<argument>"]
    assert shown["gateway"]["jvm"]["collector"] == "serial"  # what helps stays
    assert masked({"entries": [{"by": "frank@laptop"}]}) == {"entries": [{"by": "<person>"}]}


def test_a_stored_user_is_taken_out_in_either_case(make: Callable[..., Target]) -> None:
    target = make(gateway={"username": "alice"})
    stack = target.stack.model_copy(
        update={"gateway": target.stack.gateway.model_copy(update={"username": None})}
    )
    stored = dataclasses.replace(target, stack=stack)
    secrets.store(stored, "tws-username", b"zaphod77")
    assert redactor(stored)("zaphod77 ZAPHOD77") == "<user> <user>"


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


def test_a_stack_that_was_moved_away_is_told_where_it_is() -> None:
    """`up` is refused here: it is no advice."""
    facts = Facts(**copy.deepcopy(GOOD))
    facts.moved = "me@new at 2026-02-13 14:30 UTC"
    (found,) = drift(Evidence(facts=facts, observed=Observed("a1")))
    assert (found.state, found.text) == ("fail", f"the stack was moved to {facts.moved}")
    assert "stack.yaml" in found.mend
    status = {"target": "prod", "services": [], "movedTo": facts.moved}
    assert lines_of_status(status) == [
        f"prod: was moved to {facts.moved}; change the host in stack.yaml"
    ]


def test_caddys_own_door_is_no_open_port(make: Callable[..., Target]) -> None:
    facts = Facts(**copy.deepcopy(GOOD))
    facts.host["exposed"] = [8080]
    target = make(host="me@vm", caddy={"http_port": 8080}, bridge={"port": 8081})
    evidence = Evidence(target=target, facts=facts, open_ports=[8080])
    (found,) = [one for one in run(evidence) if one.check == "ports"]
    assert (found.state, "8080" in found.text) == ("ok", False)
    evidence.open_ports = [4002, 8080]
    (found,) = [one for one in run(evidence) if one.check == "ports"]
    assert (found.state, "here: 4002;" in found.text) == ("fail", True)


@pytest.mark.parametrize(
    ("mode", "used"), [("paper", {"tws"}), ("both", {"tws_live", "tws_paper"})]
)
def test_settings_of_an_earlier_mode_are_nobodys(
    make: Callable[..., Target], mode: str, used: set[str]
) -> None:
    old, new = "TimeZone=Europe/Berlin\n", "TimeZone=America/New_York\n"
    facts = Facts(**copy.deepcopy(GOOD))
    files = {name: new if name in used else old for name in ("tws", "tws_live", "tws_paper")}
    facts.settings = {"owner": 1000, "files": files}
    gateway = {"mode": mode} | ({"paper_username": "bob"} if mode == "both" else {})
    target = make(gateway=gateway, profile="standard")
    found = [one for one in run(Evidence(target=target, facts=facts)) if one.check == "settings"]
    assert {one.text.partition("/")[0] for one in found} == used
    assert {one.state for one in found} == {"ok"}


class Host:
    """Stands for a session on a host that serves `release`, and keeps what it was compared with."""

    def __init__(self, release: str, says: str = "ibc") -> None:
        self._found, self._says = Observed(release), says
        self.compared: Release | None = None

    def begin(self) -> None: ...

    def controller(self, image: str) -> str:
        return self._says

    def observe(self, release: Release | None) -> Observed:
        self.compared = release
        return self._found

    def facts(self) -> Facts:
        return Facts(**copy.deepcopy(GOOD))

    def status(self) -> Status:
        return Status({"state": "logged-in"}, [], None, None)  # type: ignore[typeddict-item]


def doctored(target: Target, host: Host, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What is found for a target whose host is there."""
    monkeypatch.setattr(cli_host, "connected", lambda *_: contextlib.nullcontext(host))
    monkeypatch.setattr(Settings, "target", lambda _: target)
    monkeypatch.setattr(evidence_module, "_outside", lambda *_: None)
    return run(gather(Settings()))


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ({"command": ["sh", "-c", "exit 1"]}, "command sh"),
        ({"file": "blank"}, "secret 'tws-password' "),
    ],
)
def test_a_release_that_cannot_be_rendered_is_called_compared_by_nobody(
    make: Callable[..., Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    password: dict[str, Any],
    why: str,
) -> None:
    (tmp_path / "blank").write_text(" begins with a blank")
    (tmp_path / "blank").chmod(0o600)
    if "file" in password:
        password = {"file": str(tmp_path / "blank")}
    target = make(gateway={"username": "bob", "password": password})
    secrets.store(target, ADMIN_KEY, secrets.new_key())
    found = doctored(target, Host("a1"), monkeypatch)
    assert any(one.state == "fail" and one.text.startswith(why) for one in found), found
    told = [one for one in found if one.check == "release"]
    assert told
    assert all(one.state == "warn" and "not compared" in one.text for one in told)
    assert not any("its secrets there" in one.text for one in found)


def test_a_key_that_only_up_makes_is_no_fault(
    make: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = make(gateway={"username": "bob"})
    secrets.store(target, "tws-password", b"hunter2-hunter2")
    found = doctored(target, Host("a1"), monkeypatch)
    assert not any(one.check in {"secrets", "config"} and one.state == "fail" for one in found)
    (told,) = [one for one in found if one.check == "release"]
    assert (told.state, told.mend[:4]) == ("warn", "`up`")


def test_the_release_is_worked_out_with_what_the_image_logs_in_with(
    make: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` would differ from what `up` has deployed, for ever."""
    target = make(gateway={"username": "bob", "image": "registry.example/me/gateway:1"})
    secrets.store(target, "tws-password", b"hunter2-hunter2")
    secrets.resolve(target)
    host = Host("a1", "ibg-controller")
    doctored(target, host, monkeypatch)
    assert host.compared is not None
    assert "USE_IBG_CONTROLLER" in next(
        item.content.decode() for item in host.compared.files if item.path == "compose.yaml"
    )


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 27.1", "27.1"),
        ("echo; exit 1", None),  # the client is there, and no engine
        ("exec sleep 60", None),
    ],
)
def test_only_an_engine_that_answers_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, found: str | None
) -> None:
    (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(evidence_module, "ENGINE_SECONDS", 0.5)
    assert tools()["docker"] == found


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


def certificate_of(begins: float, ends: float) -> str:
    """One that began and ends so many days from now, as the facts have it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Some Authority")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=begins))
        .not_valid_after(now + dt.timedelta(days=ends))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gw.example")]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return base64.b64encode(made.public_bytes(serialization.Encoding.DER)).decode()


@pytest.mark.parametrize(
    ("begins", "ends", "state"),
    [(-60, 30, "ok"), (-80, 10, "warn"), (-91, -1, "fail"), (-4, 2, "ok"), (-5.5, 0.5, "warn")],
)
def test_a_certificate_is_late_by_its_own_life(
    make: Callable[..., Target], begins: float, ends: float, state: str
) -> None:
    facts = copy.deepcopy(GOOD)
    facts["engine"]["services"] = {"caddy": {"restarts": 0, "digests": []}}
    facts["certificate"] = certificate_of(begins, ends)
    [found] = certificate(Evidence(target=make(host="me@vm"), facts=Facts(**facts)))
    assert found.state == state


def test_a_code_that_gangway_types_is_no_failure() -> None:
    login: Any = {"state": "waiting-2fa", "kind": "code", "code": None, "window": None}
    found = login_finding(login)
    assert (found.state, found.text) == (
        "warn",
        "waiting-2fa: waiting for 2FA: gangway types the code by itself",
    )
    failed: Any = dict(login, code="second-factor-code")
    assert login_finding(failed).state == "fail"
