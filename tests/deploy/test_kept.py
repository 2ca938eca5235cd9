"""A configuration that was checked before is the very same, or it is read anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from infrastructure import kept
from infrastructure.cli.host import undecided, with_controller
from infrastructure.config import kept as kept_configuration
from infrastructure.config import loading, plain
from infrastructure.config import sandbox as sandbox_module
from infrastructure.config.kept import known, question
from infrastructure.config.kept import load as load_kept
from infrastructure.config.models import Stack
from infrastructure.config.secrets import needed, resolve
from infrastructure.errors import ConfigError, UsageError
from infrastructure.release_files import ADMIN_KEY
from infrastructure.render import model, release
from tests.deploy.conftest import SECRET_VALUES, target_of
from tests.docs.pages import PAGES, blocks
from tests.hostile.test_configuration import FIELDS, PAYLOADS, shaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.apply.session import Session
    from infrastructure.config import Target

PROJECT = Path(__file__).resolve().parents[2]
TERMS = ("heap", "memory", "sessions", "session", "read_only", "master_client_id")


@pytest.fixture(autouse=True)
def _looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        with kept.used():
            yield


def entries() -> list[Path]:
    return sorted(kept.folder().glob("*")) if kept.folder().exists() else []


def same(model: Any, found: Any) -> None:
    """Every value, text and term of a section and all that is in it."""
    if isinstance(model, BaseModel):
        names = list(type(model).model_fields)
        assert list(vars(found)) == names
        for name in names:
            same(getattr(model, name), getattr(found, name))
        if type(model).__name__ == "SecretRef":
            assert str(found) == str(model)
        return
    if isinstance(model, (tuple, list)):
        assert type(found) is type(model)
        assert len(found) == len(model)
        for one, other in zip(model, found, strict=True):
            same(one, other)
        return
    if isinstance(model, dict):
        assert list(found) == list(model)
        for key in model:
            same(model[key], found[key])
        return
    assert type(found) is type(model)
    assert found == model


def the_same_target(target: Target, found: Target) -> None:
    """Nothing tells the two apart but their kinds."""
    stack, other = target.stack, found.stack
    same(stack, other)
    for term in TERMS:
        assert getattr(other, term) == getattr(stack, term)
    assert other.journal.keep_days == stack.journal.keep_days
    for service in ("gateway", "bridge", "caddy", "portal", *stack.workers):
        assert other.budget(service) == stack.budget(service)
    assert json.dumps(other.trading.model_dump(mode="json")) == json.dumps(
        stack.trading.model_dump(mode="json")
    )
    assert other.simulated.model_dump() == stack.simulated.model_dump()
    assert (found.name, found.file, found.warnings) == (
        *(target.name, target.file, target.warnings),
    )
    assert (found.project, found.base, found.local) == (
        *(target.project, target.base, target.local),
    )
    assert found.document == target.document
    assert found.place("gateway", "mode") == target.place("gateway", "mode")
    wanted = {name: (str(ref), place) for name, (ref, place) in needed(target).items()}
    assert {name: (str(ref), place) for name, (ref, place) in needed(found).items()} == wanted


def through(file: Path | None, name: str | None) -> tuple[Target, Target]:
    """The target as it is checked, and as it is known afterwards."""
    target = loading.load(file, name)
    asked = question(file, name)
    assert asked is not None
    kept_configuration.remember(asked, target)
    found = known(asked)
    assert found is not None
    return target, found


# --- equal ----------------------------------------------------------------------------------------
HARD = [PAYLOADS[name] for name in ("quotes", "shell", "backslash", "foreign", "blanks", "YAML")]


def test_any_text_that_is_taken_comes_back_as_it_was(tmp_path: Path) -> None:
    """Each text of stack.yaml, with all that tries to break out of one."""
    taken = set()
    for path in FIELDS:
        for text in (*HARD, "alice", "09:30", "1MB", "caddy:2", "203.0.113.9"):
            file = tmp_path / "stack.yaml"
            values = {"targets": {"prod": shaped(path, text)}}
            file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
            with suppress(ConfigError):
                the_same_target(*through(file, "prod"))
                taken.add((path, text))
    assert len({path for path, _ in taken}) > len(FIELDS) // 2
    assert len(taken) > 100


HOSTS: st.SearchStrategy[Any] = st.sampled_from(
    [
        "ubuntu@203.0.113.7",
        "local",
        {"address": "h.example.org", "port": 2222, "jump": "a@b", "connect_timeout": 2.5},
        {"address": "::1", "sudo": False, "known_hosts": "/etc/ssh/known"},
    ]
)
SAMPLES: dict[str, st.SearchStrategy[Any]] = {
    "profile": st.sampled_from(["e2-micro", "small", "standard"]),
    "folder": st.sampled_from(["/opt/gangway", "/srv/x/"]),
    "gateway": st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["paper", "live", "both"]),
            "username": st.sampled_from(["alice", "bob.2"]),
            "paper_username": st.just("carol"),
            "password": st.sampled_from(
                [{"file": "~/p"}, {"command": "op read 'x y'"}, {"stored": "pw"}]
            ),
            "read_only": st.booleans(),
            "time_zone": st.sampled_from(["Europe/Berlin", "Asia/Tokyo", "UTC", "Etc/GMT-3"]),
            "auto_restart": st.sampled_from(["off", "23:30", "11:45 PM", "9:00 am", False]),
            "auto_logoff": st.sampled_from(["off", "22:10"]),
            "cold_restart": st.sampled_from(["off", "09:00"]),
            "jvm": st.fixed_dictionaries(
                {}, optional={"heap": st.integers(128, 900), "options": st.just(["-Xss1m"])}
            ),
            "environment": st.dictionaries(
                st.sampled_from(["MY_OWN", "OTHER"]), st.text("abc $'\"é", max_size=9)
            ),
            "publish_api": st.sampled_from([False, 4001, "127.0.0.1:4005"]),
            "two_factor": st.fixed_dictionaries(
                {},
                optional={
                    "asked": st.booleans(),
                    "totp": st.just({"i_accept_one_factor": True}),
                    "wait": st.integers(10, 900),
                },
            ),
        },
    ),
    "bridge": st.fixed_dictionaries(
        {},
        optional={
            "client_id": st.integers(0, 99),
            "port": st.integers(1, 65535),
            "session": st.sampled_from(["paper", "live", None]),
            "flex": st.sampled_from([None, {"query": "12"}]),
        },
    ),
    "caddy": st.fixed_dictionaries(
        {},
        optional={
            "domain": st.just("T.example.org"),
            "names": st.lists(st.sampled_from(["a.example", "203.0.113.9", "::1"]), max_size=2),
            "https_port": st.integers(1, 65535),
            "max_body": st.just("2MiB"),
        },
    ),
    "trading": st.fixed_dictionaries(
        {},
        optional={
            "live": st.booleans(),
            "max_quantity": st.one_of(st.none(), st.floats(0.5, 1e9), st.integers(1, 9)),
            "allow_symbols": st.one_of(st.none(), st.lists(st.sampled_from(["SPY", "QQQ"]))),
            "deny_symbols": st.lists(st.sampled_from(["GME"]), max_size=1),
        },
    ),
    "journal": st.fixed_dictionaries({"keep": st.sampled_from(["90d", "3y"])}),
    "alerts": st.fixed_dictionaries(
        {},
        optional={"urls": st.just([{"stored": "a"}, {"file": "b"}]), "events": st.just(["rule"])},
    ),
    "limits": st.fixed_dictionaries({}, optional={"gateway": st.integers(500, 900)}),
    "rules": st.just([{"id": "r", "match": {"symbol": "SPY"}, "stopLoss": {"percent": 5}}]),
    "rules_mode": st.sampled_from(["simulate", "trade", None]),
    "workers": st.just(
        {
            "scan": {
                "image": "scan:1",
                "command": "run --fast 'a b'",
                "secrets": {"discord-url": {"stored": "d"}},
                "environment": {"LEVEL": "3"},
                "needs": "gateway",
                "memory": 32,
            }
        }
    ),
}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    own=st.fixed_dictionaries({"host": HOSTS}, optional=SAMPLES),
    shared=st.fixed_dictionaries({}, optional=SAMPLES),
)
def test_a_configuration_comes_back_as_it_was_and_renders_the_same_release(
    own: dict[str, Any], shared: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "stack.yaml"
    whole = {"defaults": shared, "targets": {"prod": own, "other": {"host": "local"}}}
    file.write_text(yaml.safe_dump(whole), encoding="utf-8")
    try:
        target, found = through(file, "prod")
    except ConfigError:  # nothing that is refused is ever kept
        asked = question(file, "prod")
        assert asked is not None
        assert known(asked) is None
        return
    the_same_target(target, found)
    values = dict.fromkeys(needed(target), b"not-a-real-secret-9") | SECRET_VALUES
    assert release(found, values) == release(target, values)


def test_the_configurations_of_the_pages_come_back_as_they_were(tmp_path: Path) -> None:
    seen = 0
    for block in (block for page in PAGES for block in blocks(page, "yaml")):
        values = yaml.safe_load(block.text)
        if not isinstance(values, dict) or "targets" not in values:
            continue
        file = tmp_path / "stack.yaml"
        file.write_text(block.text, encoding="utf-8")
        for name in values["targets"]:
            the_same_target(*through(file, name))
            seen += 1
    assert seen >= 1


def test_the_sandbox_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "sandbox"))
    monkeypatch.setattr(sandbox_module, "reserved", lambda _: sandbox_module.USUAL)
    first, second = load_kept(), load_kept(None, "sandbox")
    assert [type(one.stack).__name__ for one in (first, second)] == ["Stack", "PlainStack"]
    the_same_target(first, second)
    secrets = {ADMIN_KEY: b"not-a-real-secret-9"}
    assert release(second, secrets) == release(first, secrets)


def test_every_section_and_every_term_has_its_stand_in() -> None:
    """A term that is added to a model alone would be missing where the model is not loaded."""
    pydantic_own = set(dir(BaseModel))

    def terms(kind: type[BaseModel]) -> set[str]:
        own = {
            name
            for name in set(dir(kind)) - pydantic_own - set(kind.model_fields)
            if not name.startswith("_")
        }
        return {name for name in own if not hasattr(plain.KINDS.get(kind.__name__, object), name)}

    def sections(kind: Any, seen: set[Any]) -> set[Any]:
        for field in kind.model_fields.values():
            for part in _parts(field.annotation):
                if part not in seen:
                    sections(part, seen | {part})
                    seen |= {part} | sections(part, seen | {part})
        return seen

    found = sections(Stack, {Stack})
    assert len(found) > 10
    assert {kind.__name__: terms(kind) for kind in found if terms(kind)} == {}
    assert plain.KINDS.keys() <= {kind.__name__ for kind in found}


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    import typing

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)


def test_what_the_host_tells_of_the_image_goes_into_the_stand_in(tmp_path: Path) -> None:
    target_of(tmp_path, gateway={"username": "a", "image": "example/other:1"})
    found = [load_kept(tmp_path / "stack.yaml") for _ in range(2)]
    assert [type(one.stack).__name__ for one in found] == ["Stack", "PlainStack"]

    class Host:
        def controller(self, image: str) -> str:
            assert image == "example/other:1"
            return "ibg-controller"

    told = [with_controller(one, cast("Session", Host())) for one in found]
    assert all(map(undecided, found))
    the_same_target(*told)
    secrets = {"tws-password": b"x", ADMIN_KEY: b"not-a-real-secret-9"}
    assert told[1].stack.gateway.controller == "ibg-controller"
    assert release(told[1], secrets) == release(told[0], secrets)


def test_what_stands_in_behaves_as_a_model() -> None:
    host = plain.read(plain.written(Stack.model_validate({"host": "a@b:22"}))).host
    other = host.model_copy(update={"user": "c"})
    assert (other.user, host.user, other.address) == ("c", "a", "b")
    assert other != host
    assert other.model_copy(update={"user": "a"}) == host
    with pytest.raises(AttributeError, match="cannot change"):
        host.user = "d"


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "Stack",
        [],
        {},
        {"section": "Host", "values": {}},
        {"section": "Stack"},
        {"tuple": 1},
    ],
)
def test_what_was_not_written_is_not_read(value: Any) -> None:
    with pytest.raises(ValueError, match="no stack"):
        plain.read(value)


# --- the same, or anew ----------------------------------------------------------------------------
@pytest.fixture
def file(tmp_path: Path) -> Path:
    target_of(tmp_path)
    return tmp_path / "stack.yaml"


def test_the_second_look_needs_no_models(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_kept(file)
    monkeypatch.setattr(loading, "load", lambda *_: pytest.fail("it was read anew"))
    assert load_kept(file).warnings == first.warnings
    assert load_kept(file).name == "prod"


def test_what_the_file_says_now_holds(file: Path) -> None:
    assert load_kept(file).stack.bridge.port == 8080
    text = file.read_text()
    file.write_text(text.replace("gateway:", "bridge: {port: 8099}\n    gateway:"))
    assert load_kept(file).stack.bridge.port == 8099
    file.write_text(text)
    assert load_kept(file).stack.bridge.port == 8080


def test_each_target_and_each_path_is_one_of_its_own(tmp_path: Path) -> None:
    text = yaml.safe_dump({"targets": {"a": {"host": "x@a"}, "b": {"host": "x@b"}}})
    text = text.replace("x@a", "x@a\n    gateway: {username: u}").replace(
        "x@b", "x@b\n    gateway: {username: u}"
    )
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "stack.yaml").write_text(text)
    for _ in range(2):
        for folder in ("one", "two"):
            path = tmp_path / folder / "stack.yaml"
            for name in ("a", "b"):
                found = load_kept(path, name)
                assert (found.name, found.stack.host.address) == (name, name)
                assert found.place("host").file == str(path)
            with pytest.raises(UsageError, match="2 targets"):
                load_kept(path)
            with pytest.raises(UsageError, match="no target 'c'"):
                load_kept(path, "c")


def test_whether_a_secret_is_there_is_asked_each_time(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret-value")
    secret.chmod(0o600)
    target_of(tmp_path, gateway={"username": "a", "password": {"file": str(secret)}})
    for _ in range(2):
        found = load_kept(tmp_path / "stack.yaml")
        assert resolve(found)["tws-password"] == b"s3cret-value"
    secret.write_text("another")
    assert resolve(load_kept(tmp_path / "stack.yaml"))["tws-password"] == b"another"
    secret.unlink()
    with pytest.raises(ConfigError) as error:
        resolve(load_kept(tmp_path / "stack.yaml"))
    assert "is not there" in error.value.problems()[0].message
    assert error.value.problems()[0].place == found.place("gateway", "password")


def test_a_file_that_changes_while_it_is_read_is_not_kept(file: Path) -> None:
    changed = file.read_text().replace("203.0.113.7", "203.0.113.8")

    def slow(*arguments: Any) -> Target:
        found = real(*arguments)
        file.write_text(changed)
        return found

    real = loading.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load", slow)
        assert load_kept(file).stack.host.address == "203.0.113.7"
    assert entries() == []
    assert load_kept(file).stack.host.address == "203.0.113.8"


def test_errors_are_those_of_a_fresh_look_and_nothing_is_kept(tmp_path: Path) -> None:
    broken = tmp_path / "stack.yaml"
    broken.write_text("targets:\n  prod:\n    host: [\n")
    for path, name in ((broken, None), (tmp_path / "none.yaml", None), (tmp_path, None)):
        with pytest.raises(UsageError) as kept_error:
            load_kept(path, name)
        with pytest.raises(UsageError) as error:
            loading.load(path, name)
        assert str(kept_error.value) == str(error.value)
        assert kept_error.value.problems() == error.value.problems()
    assert entries() == []


def test_what_looks_like_a_secret_is_not_kept(tmp_path: Path) -> None:
    worker = {"image": "scan:1", "environment": {"MY_TOKEN": "hunter2-hunter2"}}
    target_of(tmp_path, workers={"scan": worker})
    load_kept(tmp_path / "stack.yaml")
    assert entries() == []
    target_of(tmp_path, gateway={"environment": worker["environment"]})
    load_kept(tmp_path / "stack.yaml")
    assert entries() == []


def test_no_secret_is_kept_and_nobody_else_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret-value")
    secret.chmod(0o600)
    password = {"file": str(secret)}
    target = target_of(tmp_path, gateway={"username": "a", "password": password})
    load_kept(tmp_path / "stack.yaml")
    values = dict.fromkeys(needed(target), b"s3cret-value")
    release(target, {**values, ADMIN_KEY: b"s3cret-value-9"})
    assert len(entries()) >= 2
    assert kept.folder().stat().st_mode & 0o777 == 0o700
    for entry in entries():
        assert entry.stat().st_mode & 0o777 == 0o600
        assert b"s3cret" not in entry.read_bytes()


# --- a new program, and files that cannot be trusted ---------------------------------------------
def test_another_program_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in kept.SOURCES:
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "module.py").write_text("x = 1\n")
    monkeypatch.setattr(kept, "PROJECT", tmp_path)
    first = kept.sources()
    assert kept.sources() == first
    module = tmp_path / "bridge" / "below" / "module.py"
    before = module.stat()
    module.write_text("x = 2\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = kept.sources()
    assert second != first
    (tmp_path / "infrastructure" / "other.py").write_text("")
    assert kept.sources() not in {first, second}
    (tmp_path / "infrastructure" / "other.py").unlink()
    assert kept.sources() == second
    monkeypatch.setattr(sys, "version", "4.0")
    assert kept.sources() != second


def test_the_packages_and_the_time_zones_are_part_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(packages)])
    first = kept.sources()
    (packages / "pydantic-9.dist-info").mkdir()
    assert kept.sources() != first
    monkeypatch.setattr("zoneinfo.TZPATH", (str(tmp_path),))
    assert kept.sources() != first


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"203.0.113.7", b"203.0.113.6")),
        lambda path: path.write_bytes(os.urandom(200)),
        lambda path: path.chmod(0o644),
        lambda path: path.chmod(0o620),
        lambda path: (path.rename(path.with_name("away")), path.symlink_to("away")),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: path.parent.chmod(0o777),
        lambda path: path.unlink(),
    ],
    ids=[
        "empty",
        "short",
        "changed",
        "noise",
        "readable",
        "writable",
        "link",
        "folder",
        "open",
        "gone",
    ],
)
def test_a_damaged_file_is_as_none(file: Path, damage: Any) -> None:
    target = load_kept(file)
    asked = question(file, None)
    assert asked is not None
    assert known(asked) is not None
    damage(kept.folder() / asked.key)
    assert known(asked) is None
    the_same_target(target, load_kept(file))


def test_somebody_else_s_file_is_as_none(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_kept(file)
    asked = question(file, None)
    assert asked is not None
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    assert known(asked) is None
    assert load_kept(file).name == "prod"


@pytest.mark.parametrize("value", [[], {}, {"name": "prod"}, 7, {"stack": None, "document": None}])
def test_another_shape_is_as_none(file: Path, value: Any) -> None:
    load_kept(file)
    asked = question(file, None)
    assert asked is not None
    kept.keep(asked.key, value)
    assert known(asked) is None


def test_where_nothing_can_be_written_nothing_is_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blocked").write_text("a file where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "blocked"))
    assert load_kept(file).name == load_kept(file).name == "prod"
    monkeypatch.setattr(Path, "expanduser", lambda _: (_ for _ in ()).throw(RuntimeError()))
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kept.fetch("anything") is None
    kept.keep("anything", 1)


def test_the_oldest_go() -> None:
    for number in range(kept.MOST_FILES + 5):
        kept.keep(f"thing-{number}", number)
        os.utime(kept.folder() / f"thing-{number}", (number, number))
    kept.keep("newest", 1)
    assert len(entries()) == kept.MOST_FILES
    assert kept.fetch("newest") == 1
    assert kept.fetch("thing-0") is None
    kept.keep("big", "x" * kept.BIGGEST)
    assert kept.fetch("big") is None


# --- texts ----------------------------------------------------------------------------------------
def test_a_template_that_changed_is_filled_in_anew(tmp_path: Path) -> None:
    template = tmp_path / "a.j2"
    template.write_text("a {{ name }}")
    assert model.render(template, name="x") == "a x"
    assert model.render(template, name="x") == "a x"
    assert model.render(template, name="y") == "a y"
    template.write_text("b {{ name }}")
    assert model.render(template, name="x") == "b x"


def test_outside_a_look_nothing_is_kept(file: Path, tmp_path: Path) -> None:
    kept_before = entries()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "_made_by", None)
        (tmp_path / "a.j2").write_text("a {{ name }}")
        assert model.render(tmp_path / "a.j2", name="x") == "a x"
        with pytest.raises(RuntimeError, match="used"):
            kept.key("text")
    assert entries() == kept_before


# --- what a look loads ---------------------------------------------------------------------------
HEAVY = ("pydantic", "jinja2", "typer", "rich", "paramiko", "cryptography", "yaml", "fabric")
MOST_MODULES = {"plan": 210, "status": 210}


@pytest.mark.parametrize("look", ["plan", "status"])
def test_a_second_look_loads_little(look: str, tmp_path: Path) -> None:
    """What creeps in here makes every look slower: load it where it is needed."""
    own: dict[str, Any] = {"gateway": {"username": "alice", "two_factor": {"asked": False}}}
    own |= {"host": "local", "runtime": "sandbox", "profile": "standard", "folder": str(tmp_path)}
    (tmp_path / "stack.yaml").write_text(yaml.safe_dump({"targets": {"own": own}}))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [sys.executable, "-X", "importtime", str(PROJECT / "deploy.py"), look]
    for _ in range(2):
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
    loaded = [
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    ]
    assert len(loaded) > 50
    assert not [name for name in loaded if name.partition(".")[0] in HEAVY]
    assert len(loaded) <= MOST_MODULES[look]


def test_keys_are_told_apart_by_their_parts() -> None:
    keys = {kept.key("a", b"b", b"c"), kept.key("a", b"bc"), kept.key("ab", b"c"), kept.key("a")}
    assert len(keys) == 4
