"""Text that breaks out of files, pushed through every text of stack.yaml: found in the models."""

from __future__ import annotations

import configparser
import os
import subprocess
from typing import TYPE_CHECKING, Any, get_args

import pytest
import yaml

from infrastructure.config import load
from infrastructure.config.loading import model_in
from infrastructure.config.models import Stack
from infrastructure.errors import ConfigError
from infrastructure.render import release
from tests.deploy.conftest import SECRET_VALUES
from tests.deploy.test_caddy import CADDY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydantic import BaseModel

    from infrastructure.config import Target
    from infrastructure.render.model import Release

PAYLOADS = {
    "line": "IB Key\nReadOnlyApi=no",
    "carriage return": "a\rb",
    "next line": "a\x85b",
    "separator": "a\u2028b",
    "quotes": "a\"b'c",
    "shell": "${HOME} $(id) $HOME",
    "template": "{{ 7*7 }}{% raw %}",
    "placeholder": "{env.HOME} {$HOME}",
    "backticks": "a`id`b",
    "backslash": "a\\nb\\u0041\\",
    "NUL": "a\0b",
    "bidi": "a\u202eb\u2066c",
    "invisible": "a\u200bb\ufeffc",
    "foreign": "Schlüssel 鍵 🔑",
    "long": "x" * 10_240,
    "blanks": "a b\tc",
    "comment": "a # b ; c = d : e",
    "option": "-oProxyCommand=id",
    "braces": "a } b { c",
    "digits of another script": "٣٣",
    "YAML": "a: [b, {c: *d}] &e !!f",
}
BASE: dict[str, Any] = {
    "host": {"address": "203.0.113.7"},
    "profile": "standard",
    "gateway": {"username": "alice"},
}
ENOUGH = 25
"""Fields at least: a walk that finds fewer has lost its way."""


def texts(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field that takes text, of the model and all that are in it."""
    for name, field in model.model_fields.items():
        inner = model_in(field.annotation)
        if inner is not None:
            yield from texts(inner, (*path, name))
        elif _takes_text(field.annotation):
            yield (*path, name)


def _takes_text(annotation: Any) -> bool:
    return annotation is str or any(_takes_text(each) for each in get_args(annotation))


def shaped(path: tuple[str, ...], text: str) -> dict[str, Any]:
    """The base with a text at a path, as the field there wants it: plain, a list, a mapping."""
    model: Any = Stack
    for name in path[:-1]:
        model = model_in(model.model_fields[name].annotation)
    kind = str(model.model_fields[path[-1]].annotation)
    value: Any = text
    if "tuple" in kind:
        value = [text]
    elif "dict" in kind:
        value = {"MY_OWN": text}
    values: dict[str, Any] = yaml.safe_load(yaml.safe_dump(BASE))
    if path[0] == "alerts" and path[1] == "urls":
        values["alerts"] = {"urls": [{path[2]: value}]}
        return values
    if path[0] == "gateway" and path[1] == "paper_username":
        values["gateway"]["mode"] = "both"
    if path[:2] == ("portal", "username"):
        values["portal"] = {"enabled": True}
    if path[:2] == ("bridge", "flex"):
        values["bridge"] = {"flex": {"query": "1"}}
    at = values
    for name in path[:-1]:
        at = at.setdefault(name, {})
    at[path[-1]] = value
    return values


FIELDS = list(texts(Stack))


def test_the_walk_finds_the_fields() -> None:
    assert len(FIELDS) >= ENOUGH
    assert {("gateway", "two_factor", "device"), ("caddy", "listen"), ("host", "jump")} <= {*FIELDS}


@pytest.mark.skipif(CADDY is None, reason="needs Caddy: make setup")
@pytest.mark.parametrize("path", FIELDS, ids=".".join)
def test_a_text_arrives_as_it_is_or_is_refused_with_its_place(
    path: tuple[str, ...], tmp_path: Path
) -> None:
    """Invariant: a setting is one value of one key, in whatever file it ends up."""
    caddyfiles: set[bytes] = set()
    for name, text in PAYLOADS.items():
        file = tmp_path / "stack.yaml"
        values = {"targets": {"prod": shaped(path, text)}}
        file.write_text(yaml.safe_dump(values, allow_unicode=False), encoding="utf-8")
        try:
            target = load(file)
        except ConfigError as error:
            _refused_well(error, path, name, text)
            continue
        rendered = release(target, {**SECRET_VALUES, "alert-url-1": b"ntfy://topic"})
        _read_back(target, rendered, path, text, tmp_path)
        caddyfiles.add(rendered.file("caddy/Caddyfile").content)
    for content in caddyfiles:
        _adapts(content, tmp_path)


def _refused_well(error: ConfigError, path: tuple[str, ...], name: str, text: str) -> None:
    assert error.exit_code == 2
    places = [
        (place.line, place.path.removeprefix("targets.prod."))
        for place in (problem.place for problem in error.found)
        if place
    ]
    wanted = ".".join(path if path[:2] != ("alerts", "urls") else path[:2])
    assert any(line and (at.startswith(wanted) or wanted.startswith(at)) for line, at in places), (
        name,
        error.found,
    )
    for problem in error.found:
        assert text not in problem.message or text.isprintable(), name
        assert len(problem.message) < 500, name


def _read_back(
    target: Target, rendered: Release, path: tuple[str, ...], text: str, folder: Path
) -> None:
    composed = yaml.safe_load(rendered.file("compose.yaml").content)
    harmless = yaml.safe_load(
        release(_harmless(folder), SECRET_VALUES).file("compose.yaml").content
    )
    for service in harmless["services"]:
        found, plain = composed["services"][service], harmless["services"][service]
        assert found.keys() >= plain.keys() - {"labels"}
        assert found["cap_drop"] == plain["cap_drop"]
        assert found["security_opt"] == plain["security_opt"]
    environment: dict[str, str] = composed["services"]["gateway"]["environment"]
    environment = {key: str(value).replace("$$", "$") for key, value in environment.items()}
    if path == ("gateway", "environment"):
        assert environment["MY_OWN"] == text
    if path == ("gateway", "two_factor", "device"):
        assert _as_the_image_reads(environment["TWOFA_DEVICE"]) == {
            "SecondFactorDevice": text.strip(),
            "ReadOnlyApi": "yes",
        }
    ini = configparser.ConfigParser(interpolation=None, strict=True)
    ini.read_string(rendered.file("gateway/jts.ini").content.decode())
    assert ini["Logon"]["TimeZone"] == target.stack.gateway.time_zone
    for line in rendered.file("gateway/jvm.options").content.decode().splitlines():
        assert line.startswith("-X")
        assert " " not in line


def _harmless(folder: Path) -> Target:
    file = folder / "harmless.yaml"
    file.write_text(yaml.safe_dump({"targets": {"prod": BASE}}))
    return load(file)


def _as_the_image_reads(value: str) -> dict[str, str]:
    """Through a shell's environment into config.ini, and that as Java properties."""
    script = 'printf "SecondFactorDevice=%s\\nReadOnlyApi=yes\\n" "$TWOFA_DEVICE"'
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": os.environ["PATH"], "TWOFA_DEVICE": value},
        capture_output=True,
        check=True,
    )
    return properties(done.stdout.decode("latin-1"))


def properties(text: str) -> dict[str, str]:
    """Java's rules for one line a key: escapes, Latin-1, a last backslash that joins lines."""
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        while (len(line) - len(line.rstrip("\\"))) % 2:
            line = line[:-1] + next(lines, "").lstrip()
        key, _, value = line.partition("=")
        if key:
            found[key] = _unescaped(value.lstrip())
    return found


def _unescaped(value: str) -> str:
    units: list[int] = []
    at = 0
    while at < len(value):
        letter = value[at]
        if letter == "\\" and value[at + 1] == "u":
            units.append(int(value[at + 2 : at + 6], 16))
            at += 6
            continue
        if letter == "\\":
            at += 1
            letter = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}.get(value[at], value[at])
        units.append(ord(letter))
        at += 1
    return b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be")


def _adapts(content: bytes, folder: Path) -> None:
    path = folder / "Caddyfile"
    path.write_bytes(content)
    assert CADDY
    done = subprocess.run(
        [CADDY, "adapt", "--config", str(path), "--adapter", "caddyfile"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(CADDY is None, reason="needs Caddy: make setup")
@pytest.mark.parametrize(
    ("listen", "port"), [("::1", "[::1]:443:8443"), ("127.0.0.1", "127.0.0.1:443:8443")]
)
def test_an_address_of_either_kind_can_be_listened_on(
    listen: str, port: str, tmp_path: Path
) -> None:
    file = tmp_path / "stack.yaml"
    file.write_text(yaml.safe_dump({"targets": {"prod": {**BASE, "caddy": {"listen": listen}}}}))
    rendered = release(load(file), SECRET_VALUES)
    composed = yaml.safe_load(rendered.file("compose.yaml").content)
    assert port in composed["services"]["caddy"]["ports"]
    _adapts(rendered.file("caddy/Caddyfile").content, tmp_path)
