"""Workers in stack.yaml: what is refused, what they are rendered to, what a plan says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer.main
import yaml

from infrastructure.apply.checks import checks, checks_alone
from infrastructure.apply.protocol.events import Status
from infrastructure.cli.app import app
from infrastructure.cli.commands.completion import services, workers
from infrastructure.cli.plan_view import lines
from infrastructure.cli.reference import resolved, schema
from infrastructure.cli.status_view import document
from infrastructure.cli.status_view import lines as status_lines
from infrastructure.config import secrets
from infrastructure.config.worker_files import missing_folders
from infrastructure.config.workers import OURS, RESERVED
from infrastructure.errors import ConfigError, UsageError
from infrastructure.plan.compute import compute
from infrastructure.plan.observed import Observed, ObservedFile, ObservedService
from infrastructure.render import release
from infrastructure.render.kubernetes import manifests
from infrastructure.runtime.sandbox.supervisor import Definition
from tests.deploy.conftest import SECRET_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion

    from infrastructure.config import Target
    from infrastructure.render.model import Release

ONE: dict[str, Any] = {"image": "ghcr.io/me/scanner:1.4"}
FULL: dict[str, Any] = {
    "build": "scanner",
    "command": "python scanner.py --symbols 'A B'",
    "environment": {"SYMBOLS": "$AAPL"},
    "secrets": {"discord-url": {"stored": "discord"}},
    "api_key": "trade",
    "memory": 64,
    "restart": "on-failure",
    "needs": "bridge-ready",
    "tws_client_id": 7,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a worker is built of, with what must not travel."""
    made = tmp_path / "scanner"
    (made / ".git").mkdir(parents=True)
    (made / ".git" / "config").write_text("[core]")
    (made / "Dockerfile").write_text("FROM python:3.13-slim\n")
    (made / "scanner.py").write_text("print(1)\n")
    (made / "run.sh").write_text("#!/bin/sh\n")
    (made / "run.sh").chmod(0o755)
    return made


def rendered(target: Target) -> Release:
    known = {name: SECRET_VALUES.get(name, b"of-a-worker") for name in secrets.needed(target)}
    return release(target, known)


def service(target: Target, name: str = "scanner") -> dict[str, Any]:
    document = yaml.safe_load(rendered(target).file("compose.yaml").content)
    found: dict[str, Any] = document["services"][name]
    return found


# --- refusals -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("workers", "message", "at"),
    [
        *(({name: ONE}, "is a name of gangway's own", f"workers.{name}") for name in RESERVED),
        ({"My_Bot": ONE}, "'My_Bot' is no name of a worker", "workers.My_Bot"),
        ({"bot": {}}, "needs image or build", "workers.bot"),
        ({"bot": {**ONE, "build": "scanner"}}, "exclude each other", "workers.bot.build"),
        ({"bot": {"image": "scanner"}}, "no image with a tag or digest", "workers.bot.image"),
        ({"bot": {**ONE, "api_key": "admin"}}, "must be 'none', 'read' or 'trade'", "api_key"),
        ({"bot": {**ONE, "needs": "caddy"}}, "must be 'bridge-ready' or 'gateway'", "needs"),
        ({"bot": {**ONE, "restart": "always"}}, "must be 'unless-stopped'", "restart"),
        ({"bot": {**ONE, "memory": 4}}, "greater than or equal to 16", "memory"),
        ({"bot": {**ONE, "memory": 161}}, "of which 160 are not taken", "workers.bot.memory"),
        (
            {"one": {**ONE, "memory": 100}, "two": {**ONE, "memory": 61}},
            "61 MB for worker two do not fit",
            "workers.two.memory",
        ),
        ({"bot": {**ONE, "ports": ["80:80"]}}, "unknown key 'ports'", "workers.bot.ports"),
        ({"bot": {**ONE, "command": ""}}, "at least one word", "workers.bot.command"),
        (
            {"bot": {**ONE, "secrets": {"url": "https://x"}}},
            "a secret's value does not belong",
            "workers.bot.secrets.url",
        ),
        (
            {"bot": {**ONE, "secrets": {"URL": {"stored": "x"}}}},
            "is no name of a worker's secret",
            "workers.bot.secrets.URL",
        ),
        (
            {"bot": {**ONE, "secrets": {"bridge-api-key": {"stored": "x"}}}},
            "BRIDGE_API_KEY_FILE is set by gangway",
            "workers.bot.secrets.bridge-api-key",
        ),
        *(
            (
                {"bot": {**ONE, "environment": {name: "x"}}},
                f"{name} is set by gangway",
                f"workers.bot.environment.{name}",
            )
            for name in OURS
        ),
        (
            {
                "bot": {
                    **ONE,
                    "environment": {"HOOK_FILE": "x"},
                    "secrets": {"hook": {"stored": "hook"}},
                }
            },
            "HOOK_FILE is set by gangway",
            "workers.bot.environment.HOOK_FILE",
        ),
        (
            {"bot": {**ONE, "environment": {"A-B": "x"}}},
            "is no name of a variable",
            "workers.bot.environment.A-B",
        ),
        (
            {"bot": {**ONE, "environment": {"A": "x\u2028y"}}},
            "a line break or an invisible character",
            "workers.bot.environment",
        ),
        ({"bot": {**ONE, "tws_client_id": 1}}, "is the bridge's", "tws_client_id"),
        ({"bot": {**ONE, "tws_client_id": 0}}, "greater than or equal to 1", "tws_client_id"),
        ({"bot": {**ONE, "tws_client_id": 9500}}, "kept for trying settings", "tws_client_id"),
        (
            {"one": {**ONE, "memory": 64, "tws_client_id": 7}, "two": {**ONE, "tws_client_id": 7}},
            "client id 7 is worker one's",
            "workers.two.tws_client_id",
        ),
    ],
)
def test_refused_with_its_place(
    make: Callable[..., Target], workers: dict[str, Any], message: str, at: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(workers=workers)
    [found] = [one for one in caught.value.problems() if message in one.message]
    assert found.place is not None
    assert found.place.path.endswith(at)
    assert found.place.line > 1


def test_the_sandbox_needs_a_command_and_counts_no_memory(make: Callable[..., Target]) -> None:
    place = {"host": "local", "runtime": "sandbox"}
    with pytest.raises(ConfigError, match="1 problem") as caught:
        make(**place, workers={"bot": {**ONE, "memory": 9999}})
    [found] = caught.value.problems()
    assert found.message == "'command' is missing"
    assert make(**place, workers={"bot": {**ONE, "memory": 9999, "command": "true"}})


def test_a_folder_that_cannot_be_built_from(make: Callable[..., Target], tmp_path: Path) -> None:
    target = make(workers={"bot": {"build": "bot"}})
    [found] = missing_folders(target)
    assert (found.message, str(found.place).endswith("workers.bot.build")) == (
        "there is no folder bot",
        True,
    )
    with pytest.raises(ConfigError) as caught:
        rendered(target)
    assert caught.value.problems() == [found]
    (tmp_path / "bot").mkdir()
    assert missing_folders(target)[0].message == "bot has no Dockerfile"


def test_a_folder_that_is_no_program(make: Callable[..., Target], folder: Path) -> None:
    target = make(workers={"scanner": {"build": "scanner"}})
    (folder / "out").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match="out leads out of the folder"):
        rendered(target)
    (folder / "out").unlink()
    with (folder / "data").open("wb") as file:
        file.truncate(33 * 1024 * 1024)
    with pytest.raises(UsageError, match="are no program") as caught:
        rendered(target)
    assert str(caught.value.place).endswith("workers.scanner.build")
    (folder / ".dockerignore").write_text("# comment\ndata\n")
    assert "workers/scanner/scanner.py" in {one.path for one in rendered(target).files}


def test_a_secret_that_is_not_stored(make: Callable[..., Target]) -> None:
    target = make(workers={"bot": {**ONE, "secrets": {"hook": {"stored": "hook"}}}})
    missing = {str(one.place): one for one in secrets.missing(target)}
    [found] = [one for place, one in missing.items() if place.endswith("workers.bot.secrets.hook")]
    assert found.code == "missing-secret"
    assert "secrets set hook" in found.hint
    secrets.store(target, "hook", b"https://example.org")
    assert not [one for one in secrets.missing(target) if "hook" in one.message]


def test_what_is_only_told(make: Callable[..., Target]) -> None:
    target = make(
        workers={"bot": {**ONE, "tws_client_id": 7, "environment": {"API_TOKEN": "x", "KEYS": "2"}}}
    )
    told = [one.message for one in target.warnings]
    assert len(told) == 2
    assert "limits, journal and halt of the bridge do not hold" in told[0]
    assert "API_TOKEN looks like a secret" in told[1]


def test_kubernetes_says_why_not(make: Callable[..., Target]) -> None:
    target = make(workers={"bot": ONE})
    with pytest.raises(UsageError, match="worker bot is not rendered for Kubernetes") as caught:
        manifests(target, None)
    assert str(caught.value.place).endswith("workers.bot")


def test_no_secret_is_shown(make: Callable[..., Target], folder: Path) -> None:
    shown = resolved(make(profile="small", workers={"scanner": FULL}))
    assert shown["workers"]["scanner"]["secrets"] == {"discord-url": "<stored secret 'discord'>"}
    assert shown["workers"]["scanner"]["command"][-1] == "A B"
    assert "Worker" in schema()["$defs"]


# --- rendering ----------------------------------------------------------------------------------
def test_compose(make: Callable[..., Target], folder: Path, snapshot: SnapshotAssertion) -> None:
    target = make(workers={"scanner": FULL})
    found = service(target)
    found["labels"].pop("gangway.hash")
    assert found.pop("image").startswith("gangway/prod-worker-scanner:")
    assert found == snapshot
    made = rendered(target)
    assert {one.path: one.mode for one in made.files if one.path.startswith("workers/")} == {
        "workers/scanner/Dockerfile": 0o644,
        "workers/scanner/run.sh": 0o755,
        "workers/scanner/scanner.py": 0o644,
    }
    secret = made.file("secrets/worker.scanner.discord-url")
    assert (secret.mode, secret.uid, secret.services) == (0o400, 1000, ("scanner",))
    assert ("workers/scanner", 1000, 0o700) in [
        (one.path, one.uid, one.mode) for one in made.folders
    ]
    text = made.file("compose.yaml").content.decode()
    assert "of-a-worker" not in text


def test_fenced_in_as_our_own(make: Callable[..., Target]) -> None:
    target = make(workers={"bot": {**ONE, "memory": 40}})
    found, bridge = service(target, "bot"), service(target, "bridge")
    alike = ("cap_drop", "security_opt", "pids_limit", "user", "read_only", "tmpfs", "logging")
    assert {name: found[name] for name in alike} == {name: bridge[name] for name in alike}
    assert (found["mem_limit"], found["memswap_limit"]) == ("40m", "40m")
    assert found["oom_score_adj"] > bridge["oom_score_adj"]
    assert "ports" not in found
    assert found["networks"] == ["web"], "the gateway is not there"
    assert found["environment"] == {"BRIDGE_URL": "http://bridge:8080"}
    assert "volumes" not in found
    assert "command" not in found


def test_a_worker_changes_nobody_else(make: Callable[..., Target], folder: Path) -> None:
    """Added, changed or taken away: every other service stays as it is."""

    def hashes(workers: dict[str, Any]) -> dict[str, str]:
        return {one.name: one.hash for one in rendered(make(workers=workers)).services}

    bare, full = hashes({}), hashes({"scanner": FULL})
    own = full.pop("scanner")
    assert full == bare
    changes: tuple[dict[str, Any], ...] = (
        {"api_key": "read"},
        {"needs": "gateway"},
        {"memory": 65},
        {"environment": {}},
        {"secrets": {}},
        {"tws_client_id": 8},
    )
    for change in changes:
        changed = hashes({"scanner": {**FULL, **change}})
        assert changed.pop("scanner") != own, change
        assert changed == bare
    (folder / "scanner.py").write_text("print(2)\n")
    changed = hashes({"scanner": FULL})
    assert changed.pop("scanner") != own
    assert changed == bare
    (folder / ".git" / "config").write_text("[other]")
    assert hashes({"scanner": FULL})["scanner"] != own


def test_a_process_of_the_sandbox(make: Callable[..., Target], folder: Path) -> None:
    target = make(
        host="local",
        runtime="sandbox",
        workers={"scanner": FULL, "bot": {**ONE, "command": "sleep 9"}},
    )
    made = rendered(target)
    found = json.loads(made.file("sandbox.json").content)["services"]
    assert found["scanner"]["command"] == ["{python}", "scanner.py", "--symbols", "A B"]
    assert found["scanner"]["folder"] == "{image}"
    assert found["scanner"]["environment"] == {
        "BRIDGE_URL": "http://127.0.0.1:8080",
        "BRIDGE_API_KEY_FILE": "/opt/gangway/prod/data/workers/scanner/api-key",
        "TWS_HOST": "127.0.0.1",
        "TWS_PORT": "4002",
        "TWS_CLIENT_ID": "7",
        "DISCORD_URL_FILE": "/opt/gangway/prod/current/secrets/worker.scanner.discord-url",
        "SYMBOLS": "$AAPL",
    }
    assert found["bot"]["folder"] == "/opt/gangway/prod/data/workers/bot"
    builds = {one.name: one.builds for one in made.services}
    assert builds == {
        "gateway": False,
        "bridge": True,
        "caddy": False,
        "scanner": True,
        "bot": False,
    }


@pytest.mark.parametrize(
    ("restart", "autorestart", "startsecs"),
    [("unless-stopped", "true", "2"), ("on-failure", "unexpected", "2"), ("no", "false", "0")],
)
def test_how_supervisord_restarts_it(restart: str, autorestart: str, startsecs: str) -> None:
    made = Definition("i", ("true",), {}, "/", (), 3, restart).settings(
        Path("/log"), Path("/script")
    )
    assert (made["autorestart"], made["startsecs"]) == (autorestart, startsecs)
    assert made["startretries"] == "1000"


# --- plan and status ----------------------------------------------------------------------------
def observed(made: Release) -> Observed:
    files = {
        one.path: ObservedFile(one.digest, None if one.secret else one.content)
        for one in made.files
    }
    services = {
        one.name: ObservedService(one.name, "running", "none", one.image, "i", one.hash)
        for one in made.services
    }
    return Observed(made.id, files, services)


def test_a_plan_names_workers(make: Callable[..., Target], folder: Path) -> None:
    before = observed(rendered(make()))
    target = make(workers={"scanner": FULL})
    plan = compute(target, rendered(target), before)
    assert {one.service: one.action for one in plan.changes if one.action != "unchanged"} == {
        "scanner": "create"
    }
    assert plan.forecast.expected is False
    assert "+ scanner  worker, create: it is not there yet" in lines(plan)

    there = observed(rendered(target))
    (folder / "scanner.py").write_text("print(2)\n")
    changed = make(workers={"scanner": {**FULL, "api_key": "read"}})
    plan = compute(changed, rendered(changed), there)
    [change] = [one for one in plan.changes if one.action != "unchanged"]
    assert (change.service, change.action) == ("scanner", "update")
    assert "1 source file changed" in change.cause
    assert "labels changed" in change.cause
    assert "-print(1)" in change.diff
    assert plan.forecast.expected is False

    plan = compute(make(), rendered(make()), there)
    [change] = [one for one in plan.changes if one.action != "unchanged"]
    assert (change.service, change.action) == ("scanner", "remove")
    assert "- scanner  worker, remove: it is no longer part of the stack" in lines(plan)


def test_a_secret_of_a_worker_changes_without_being_shown(make: Callable[..., Target]) -> None:
    target = make(workers={"bot": {**ONE, "secrets": {"hook": {"stored": "hook"}}}})
    known = dict.fromkeys(secrets.needed(target), b"of-a-worker-and-ours")
    before = observed(release(target, known))
    plan = compute(target, release(target, {**known, "worker.bot.hook": b"another"}), before)
    [change] = [one for one in plan.changes if one.action != "unchanged"]
    assert change.service == "bot"
    assert "another" not in change.diff


def test_health_is_not_asked_of_a_worker(make: Callable[..., Target]) -> None:
    target = make(workers={"bot": ONE})
    names = [one.name for one in rendered(target).services]
    assert set(checks(target, names)) == {"gateway", "bridge", "caddy"}
    assert checks_alone(target, "bot", Observed()) == {}


def test_status_lists_them_and_judges_the_rest(make: Callable[..., Target]) -> None:
    target = make(workers={"bot": ONE})
    found = observed(rendered(target))
    found = Observed(
        found.release,
        services={
            **found.services,
            "bot": ObservedService("bot", "restarting", since="2026-11-24T10:00:00Z"),
        },
    )

    login: Any = {"state": "logged-in"}
    shown = document(target, found, Status(login, [login], {"connected": True}))
    assert shown["healthy"] is True
    assert [one["name"] for one in shown["services"] if one.get("worker")] == ["bot"]


def test_a_stack_that_nobody_outside_reaches_is_not_healthy(make: Callable[..., Target]) -> None:
    target = make()
    login: Any = {"state": "logged-in"}
    found = observed(rendered(target))
    bridge: dict[str, Any] = {"connected": True}
    reasons: list[tuple[str | None, bool]] = [
        (None, True),
        ("", True),
        ("it answers with status 502", False),
    ]
    for why, healthy in reasons:
        shown = document(target, found, Status(login, [login], bridge, why))
        assert shown["healthy"] is healthy
        assert shown.get("caddy") == (None if why is None else {"serves": healthy, "said": why})
    for state, healthy in (("stalled", False), ("read-only", False), ("halted", True)):
        shown = document(target, found, Status(login, [login], bridge | {"state": state}, ""))
        assert shown["healthy"] is healthy
    why = "it answers with status 502"
    shown = document(target, found, Status(login, [login], bridge, why))
    shown["login"] = {"state": "logged-in", "session": "paper"}
    assert any(
        "passes nothing on to the bridge: it answers with status 502" in line
        for line in status_lines(shown)
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["logs"], ["scanner", "second"]),
        (["--target", "other", "logs"], ["second"]),
        (["--config", "none.yaml", "logs"], []),
    ],
)
def test_the_tab_key_knows_them(
    line: list[str], expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stack: dict[str, Any] = {
        "prod": {"workers": {"scanner": ONE}},
        "other": {"workers": {"second": ONE}},
        "bare": None,
    }
    (tmp_path / "stack.yaml").write_text(yaml.safe_dump({"targets": stack}, sort_keys=False))
    context: Any = typer.main.get_command(app).make_context(
        "deploy.py", line, resilient_parsing=True
    )
    assert workers(context, "s") == expected
    assert services(context, "") == [*("gateway", "bridge", "caddy", "portal"), *expected]
