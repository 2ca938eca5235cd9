"""What a deploy pushes: snapshots for the eye, and the rules that every file has to keep."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridge.environment import _VARIABLES
from bridge.orders.rules import TradingRules
from infrastructure.config import secrets
from infrastructure.config.bridge import Trading
from infrastructure.config.schedule import calendar
from infrastructure.program import files_below
from infrastructure.release_files import ADMIN_KEY, RELEASE_FILE
from infrastructure.render import compose, release
from infrastructure.render.model import RenderedFile, quote, word
from tests.deploy.conftest import SECRET_VALUES, rendered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from infrastructure.config import Target

RANDOM = b"hQ0vXo-3bq9K_mZ7tYw1LrUe5cNfS8aJiPdG2xHyT4k"
TARGETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "live": {
        "gateway": {
            "mode": "live",
            "image": "ghcr.io/gnzsnz/ib-gateway:10.45.1j",
            "two_factor": {"device": "IB Key"},
            "save_settings": "Every 30 mins",
            "master_client_id": 7,
            "publish_api": "127.0.0.1:4001",
            "environment": {"MY_OWN": "costs $5 ${HOME}"},
        },
        "caddy": {"domain": "trade.example.org", "email": "me@example.org"},
        "trading": {"live": True, "allow_symbols": ["AAPL"]},
        "bridge": {"library": "ib_insync", "port": 8085},
        "portal": {"url": "https://192.0.2.9:5000"},
    },
    "both": {
        "profile": "standard",
        "gateway": {"mode": "both", "paper_username": "bob", "time_zone": "Europe/Berlin"},
        "bridge": {"session": "live"},
        "portal": {"enabled": True, "username": "bob-portal"},
    },
}


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, make: Callable[..., Target]) -> Target:
    return make(**TARGETS[request.param])


def services(target: Target) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(
        rendered(target).file("compose.yaml").content
    )["services"]
    return found


def masked(text: str) -> str:
    """Without what follows from the bridge's sources, which change every day."""
    lines = text.splitlines()
    return "\n".join(
        line.split("gangway.hash:")[0] + "gangway.hash: …"
        if "gangway.hash:" in line
        else line.split("-bridge:")[0] + "-bridge:…"
        if "-bridge:" in line
        else line
        for line in lines
    )


@pytest.mark.parametrize(
    "path",
    [
        "compose.yaml",
        "caddy/Caddyfile",
        "gateway/jts.ini",
        "gateway/jvm.options",
        "gateway/ibc.settings",
        "bridge/restarts.json",
        "bridge/trading.json",
    ],
)
def test_snapshot(target: Target, path: str, snapshot: SnapshotAssertion) -> None:
    assert masked(rendered(target).file(path).content.decode()) == snapshot


def test_the_same_input_gives_the_same_release(target: Target) -> None:
    first, second = rendered(target), rendered(target)
    assert first == second
    assert first.id == second.id


def test_every_service_is_fenced_in(target: Target) -> None:
    for name, service in services(target).items():
        assert service["restart"] == ("no" if name == "portal" else "unless-stopped"), name
        assert service["init"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        files = 512 if name == "caddy" else 10_000
        assert service["ulimits"]["nofile"] == {"soft": files, "hard": files}
        assert service["pids_limit"] == (256 if name in {"bridge", "caddy"} else 2048)
        assert int(service["mem_limit"][:-1]) <= int(service["memswap_limit"][:-1])
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "3"}
        assert service["healthcheck"]["test"]
        assert service["labels"]["gangway.hash"]
        assert "privileged" not in service
    for name in ("bridge", "caddy"):
        assert services(target)[name]["read_only"] is True
        assert services(target)[name]["user"] == "1000:1000"


def test_only_caddy_is_public(target: Target) -> None:
    for name, service in services(target).items():
        for port in service.get("ports", []):
            assert name == "caddy" or port.startswith("127.0.0.1:"), port
    assert services(target)["caddy"]["ports"] == ["0.0.0.0:80:8080", "0.0.0.0:443:8443"]


def test_the_gateway_is_reachable_by_the_bridge_alone(target: Target) -> None:
    found = services(target)
    sharing = [name for name in found if set(found[name]["networks"]) & {"tws"}]
    assert sharing == ["gateway", "bridge"]


def test_the_portal_is_reachable_by_the_bridge_alone(make: Callable[..., Target]) -> None:
    found = services(make(**TARGETS["both"]))
    assert found["portal"]["networks"] == ["portal"]
    assert found["bridge"]["networks"] == ["tws", "web", "portal"]
    assert found["bridge"]["environment"]["BRIDGE_PORTAL_URL"] == "https://portal:5000"
    assert "ports" not in found["portal"]
    assert "portal" not in services(make())


def test_the_bridge_takes_what_is_rendered(target: Target, tmp_path: Path) -> None:
    from bridge.environment import read

    (tmp_path / "bridge-admin-key").write_bytes(secrets.new_key())
    (tmp_path / "bridge-admin-key").chmod(0o400)
    variables = {
        name: value.replace("/run/secrets", str(tmp_path))
        for name, value in services(target)["bridge"]["environment"].items()
    }
    (tmp_path / "restarts.json").write_bytes(rendered(target).file("bridge/restarts.json").content)
    variables["BRIDGE_RESTARTS_FILE"] = str(tmp_path / "restarts.json")
    found = read(variables)
    assert set(variables) <= set(_VARIABLES)
    assert (found.listen_host, found.listen_port) == ("0.0.0.0", 8080)
    assert found.tws_host == "gateway"
    assert found.tws_port == {"paper": 4004, "live": 4003}[found.trading_mode]
    assert found.restarts == calendar(target)
    assert {each.kind for each in found.restarts.restarts} >= {"paper": {"auto-logoff"}}.get(
        target.stack.gateway.mode, {"auto-restart", "cold"}
    )


def test_secrets_are_files_and_nowhere_else(target: Target) -> None:
    found = rendered(target)
    secret = [file for file in found.files if file.secret]
    assert all(file.mode == 0o400 and file.uid == 1000 for file in secret)
    for file in found.files:
        for value in SECRET_VALUES.values():
            if not file.secret:
                assert value not in file.content, file.path
                assert value.replace(b"\\", b"\\\\") not in file.content
    assert "key-of-the-tests" not in repr(found)
    gateway = services(target)["gateway"]
    assert gateway["environment"]["TWS_PASSWORD_FILE"] == "/run/secrets/tws-password"
    assert not {"TWS_PASSWORD", "TWS_PASSWORD_PAPER", "JAVA_HEAP_SIZE"} & set(
        gateway["environment"]
    )


def test_settings_are_kept_beside_the_program(target: Target) -> None:
    mounts = {
        volume["target"]: volume["source"] for volume in services(target)["gateway"]["volumes"]
    }
    assert mounts["/home/ibgateway/settings"] == "/opt/gangway/prod/data/gateway"
    assert not any(path.startswith("/home/ibgateway/Jts") for path in mounts)
    assert services(target)["gateway"]["environment"]["TWS_SETTINGS_PATH"].startswith(
        "/home/ibgateway/settings/"
    )


def test_mounts_go_through_current_so_that_a_release_alone_restarts_nothing(
    make: Callable[..., Target],
) -> None:
    before, after = rendered(make()), rendered(make(caddy={"max_body": "2MB"}))
    assert before.id != after.id
    assert before.service("gateway") == after.service("gateway")
    assert before.service("bridge") == after.service("bridge")
    assert before.service("caddy").hash != after.service("caddy").hash


def test_a_dollar_is_not_interpolated(make: Callable[..., Target]) -> None:
    target = make(gateway={"environment": {"MY_OWN": "costs $5 ${HOME}"}})
    text = rendered(target).file("compose.yaml").content.decode()
    assert "MY_OWN: costs $$5 $${HOME}" in text


def test_the_gateway_listing_of_digests_shows_no_guessable_secret(
    make: Callable[..., Target],
) -> None:
    import hashlib

    found = rendered(make())
    listing = msgspec.json.decode(found.file(RELEASE_FILE).content)
    assert listing["id"] == found.id
    assert listing["files"]["caddy/Caddyfile"] == found.file("caddy/Caddyfile").digest
    for file in found.files:
        if file.secret:
            plain = hashlib.sha256(file.content).hexdigest()
            assert plain not in str(listing)
    changed = release(make(), {**SECRET_VALUES, "tws-password": b"other"})
    assert changed.service("gateway").hash != found.service("gateway").hash
    assert changed.service("bridge").hash == found.service("bridge").hash


@pytest.mark.parametrize(
    ("path", "key", "slow"),
    [
        (f"secrets/{ADMIN_KEY}", RANDOM, False),
        (f"secrets/{ADMIN_KEY}", b"of a person's choice", True),
        (f"secrets/{ADMIN_KEY}", RANDOM + b"=", True),
        ("secrets/tws-password", RANDOM, True),
    ],
    ids=["random", "chosen", "not of ours", "another secret"],
)
def test_only_what_nobody_can_guess_gets_a_quick_digest(
    path: str, key: bytes, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly = SimpleNamespace(result=lambda: "slow")
    monkeypatch.setattr("infrastructure.render.model._slow_digest", lambda *_: slowly)
    assert (RenderedFile(path, key, secret=True).digest == "slow") is slow


def test_a_key_that_is_made_here_counts_as_random() -> None:
    assert RenderedFile(f"secrets/{ADMIN_KEY}", secrets.new_key(), secret=True).is_random()


def test_the_user_name_can_be_stored_instead(make: Callable[..., Target]) -> None:
    target = make(gateway={"username": None})
    found = release(target, {**SECRET_VALUES, "tws-username": b"carol"})
    environment = yaml.safe_load(found.file("compose.yaml").content)["services"]["gateway"]
    assert environment["environment"]["TWS_USERID"] == "carol"
    assert "secrets/tws-username" not in [file.path for file in found.files]


def test_sources_hold_what_the_image_needs_and_nothing_else(make: Callable[..., Target]) -> None:
    paths = [file.path for file in rendered(make()).files if file.path.startswith("image/")]
    assert "image/bridge/Dockerfile" in paths
    assert "image/bridge/requirements.lock" in paths
    assert "image/bridge/requirements-ib-insync.lock" not in paths
    assert not [path for path in paths if "__pycache__" in path or path.endswith((".pyc", ".in"))]
    other = [file.path for file in rendered(make(bridge={"library": "ib_insync"})).files]
    assert "image/bridge/requirements-ib-insync.lock" in other


def test_a_changed_source_changes_the_bridge_alone(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    from infrastructure.program import PROJECT
    from infrastructure.render import bridge

    target = make()
    copy = tmp_path / "project"
    shutil.copytree(PROJECT / "bridge", copy / "bridge")
    before = bridge.image(target, bridge.sources(target, copy))
    assert before == bridge.image(target, bridge.sources(target))
    (copy / "bridge" / "extra.py").write_text("")
    assert bridge.image(target, bridge.sources(target, copy)) != before


def test_limits_have_the_bridges_own_names_and_defaults(make: Callable[..., Target]) -> None:
    ours = {name: field.default for name, field in Trading.model_fields.items()}
    theirs = {
        field.name: field.default
        for field in msgspec.structs.fields(TradingRules)
        if field.name not in {"time_zone", "gateway_read_only"}
    }
    assert ours == theirs
    rules = msgspec.json.decode(
        rendered(make(gateway={"mode": "live"})).file("bridge/trading.json").content,
        type=TradingRules,
    )
    assert rules.time_zone == "America/New_York"


@pytest.mark.parametrize("value", ["a b", "a{", 'a"', "a\nb", ""])
def test_a_word_of_the_caddyfile_cannot_break_out(value: str) -> None:
    with pytest.raises(ValueError, match="no single word"):
        word(value)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_quoting_survives_yaml(value: str) -> None:
    assert yaml.safe_load(f"a: [{quote(value)}]")["a"] == [value]


@pytest.mark.parametrize("value", ["1e5", "0o14", "09:00", "y", "12_000", ".inf", "=", "no", ""])
def test_a_text_is_no_number_for_any_reader_of_compose_yaml(value: str) -> None:
    written = compose.text({"key": value}).splitlines()[1]
    assert written in {f'key: "{value}"', f"key: '{value}'"}


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_a_value_of_compose_yaml_survives_it(value: str) -> None:
    text = compose.text({"services": {"gateway": {"environment": {"A": value}}}})
    assert yaml.safe_load(text)["services"]["gateway"]["environment"]["A"] == value
    assert compose.interpolated({"a": [value]}) == {"a": [value.replace("$", "$$")]}


TOTP = {"two_factor": {"totp": {"i_accept_one_factor": True}}}
SEED = b"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def test_the_seed_of_codes_is_a_secret_of_the_gateway_alone(make: Callable[..., Target]) -> None:
    target = make(gateway=TOTP)
    release_ = rendered(target)
    holding = [file.path for file in release_.files if SEED in file.content.upper()]
    assert holding == ["secrets/totp-seed"]
    seed = release_.file("secrets/totp-seed")
    assert (seed.content, seed.mode, seed.secret, seed.services) == (
        SEED,
        0o400,
        True,
        ("gateway",),
    )
    found = services(target)
    assert "totp-seed" in found["gateway"]["secrets"]
    assert [name for name in found if "totp-seed" in found[name].get("secrets", [])] == ["gateway"]
    assert found["gateway"]["environment"]["TWOFA_DEVICE"] == "Mobile Authenticator app"
    assert "TWOFACTOR_CODE_FILE" not in found["gateway"]["environment"]


def test_nobody_logs_in_to_a_sandbox_so_it_needs_no_password(make: Callable[..., Target]) -> None:
    """Targets that share `defaults` with it have them."""
    target = make(
        host="local",
        runtime="sandbox",
        profile="standard",
        gateway={"mode": "both", "paper_username": "alice-paper"},
        portal={"enabled": True, "username": "bob"},
    )
    assert list(secrets.needed(target)) == ["bridge-admin-key"]
    assert [file.path for file in rendered(target).files if file.secret] == [
        "secrets/bridge-admin-key"
    ]


def test_ibg_controller_types_the_codes_itself(make: Callable[..., Target]) -> None:
    found = services(make(gateway={**TOTP, "controller": "ibg-controller"}))
    environment = found["gateway"]["environment"]
    assert environment["TWOFACTOR_CODE_FILE"] == "/run/secrets/totp-seed"


def test_ibg_controller_gets_the_password_as_it_is(make: Callable[..., Target]) -> None:
    """It reads no Java properties: an escaped one would be refused, and lock the account."""
    escaped = rendered(make()).file("secrets/tws-password").content
    assert escaped == SECRET_VALUES["tws-password"].replace(b"\\", b"\\\\")
    plain = rendered(make(gateway={"controller": "ibg-controller"}))
    assert plain.file("secrets/tws-password").content == SECRET_VALUES["tws-password"]


def test_without_the_opt_in_there_is_no_seed(target: Target) -> None:
    assert "secrets/totp-seed" not in {file.path for file in rendered(target).files}


def test_files_are_values_and_names_are_unique(target: Target) -> None:
    found = rendered(target)
    paths = [file.path for file in found.files]
    assert len(paths) == len(set(paths))
    assert not [path for path in paths if path.startswith("/") or ".." in path.split("/")]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.files[0].path = "x"  # type: ignore[misc]


def compose_works() -> bool:
    docker = shutil.which("docker")
    return (
        docker is not None
        and not subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.skipif(not compose_works(), reason="needs Compose v2: make engine")
def test_compose_accepts_it(target: Target, tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    path.write_bytes(rendered(target).file("compose.yaml").content)
    done = subprocess.run(
        ["docker", "compose", "-f", str(path), "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "variable is not set" not in done.stderr
    found = msgspec.json.decode(done.stdout)
    assert found["name"] == "gangway-prod"


def test_the_flex_token_is_a_file_and_its_query_a_variable(make: Callable[..., Target]) -> None:
    rendered_one = rendered(make(bridge={"flex": {"query": "1234567"}, "page_trading": False}))
    composed = yaml.safe_load(rendered_one.file("compose.yaml").content)
    bridge = composed["services"]["bridge"]
    assert bridge["environment"]["BRIDGE_FLEX_QUERY"] == "1234567"
    assert bridge["environment"]["BRIDGE_FLEX_TOKEN_FILE"].endswith("/flex-token")
    assert bridge["environment"]["BRIDGE_PAGE_TRADING"] == "no"
    assert "flex-token" in bridge["secrets"]
    assert rendered_one.file("secrets/flex-token").mode == 0o400
    assert SECRET_VALUES["flex-token"] not in rendered_one.file("compose.yaml").content
    plain = yaml.safe_load(rendered(make()).file("compose.yaml").content)
    assert "flex-token" not in plain["services"]["bridge"]["secrets"]


def test_files_are_found_in_the_order_in_which_paths_are_sorted(tmp_path: Path) -> None:
    for name in ("x/y.py", "x.py", "x-1/z", "x/a/b", "B", "a", ".hidden/f", "left/g", "x/left/h"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "to-file").symlink_to("a")
    (tmp_path / "to-folder").symlink_to("x")
    (tmp_path / "to-nothing").symlink_to("nowhere")
    expected = [
        path.relative_to(tmp_path).as_posix()
        for path in sorted(tmp_path.rglob("*"))
        if path.is_file() and "left" not in path.relative_to(tmp_path).parts
    ]
    assert list(files_below(tmp_path, frozenset({"left"}))) == expected
    assert "x/y.py" in expected
