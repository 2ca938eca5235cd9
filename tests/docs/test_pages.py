"""What the pages name is there: links, settings, variables, files, fields."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from pydantic import BaseModel

from bridge import compose
from bridge.api.app import document
from infrastructure.config.loading import load_text, model_in
from infrastructure.config.models import Stack
from infrastructure.errors import ConfigError
from simulator import scenario
from tests.docs.pages import PAGES, PROJECT, Block, anchors, blocks, links, name, spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pages = pytest.mark.parametrize("page", PAGES, ids=name)
FOLDERS = (
    "bridge",
    "infrastructure",
    "simulator",
    "tests",
    "docs",
    "scripts",
    "bench",
    "templates",
)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found), link


def test_the_index_names_every_page() -> None:
    indexes = [PROJECT / "docs" / "README.md", PROJECT / "docs" / "decisions" / "README.md"]
    listed = {(page.parent / link).resolve() for page in indexes for link in links(page)}
    ours = {page for page in PAGES if PROJECT / "docs" in page.parents}
    assert ours - {indexes[0]} <= listed


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]+", span):
            assert (PROJECT / span).exists(), span


def test_files_of_the_architecture_exist() -> None:
    """Also in its drawings, and those that are named from their package on."""
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [PROJECT / each for each in ("bridge", "infrastructure", "simulator")]
    for file in set(re.findall(r"\w[\w/]*\.py", text)):
        within = (each for package in packages for each in package.rglob(file))
        assert (PROJECT / file).exists() or any(within), file


@pages
def test_variables_that_are_named_are_read(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(r"(BRIDGE|GANGWAY)_[A-Z_]+", span):
            assert span in sources(), span


@cache
def interface() -> dict[str, Any]:
    """The OpenAPI document."""
    return document(compose.route_tables())


@cache
def sources() -> str:
    """Everything that reads variables of the environment."""
    files = [
        *(PROJECT / "bridge").rglob("*.py"),
        *(PROJECT / "infrastructure").rglob("*.py"),
        *(PROJECT / "tests").glob("*.py"),
        *(PROJECT / "tests/engine/parts").glob("*.py"),
        *(PROJECT / "tests/engine/images/gateway/java").rglob("*.java"),
    ]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pages
def test_settings_that_are_named_exist(page: Path) -> None:
    sections = [key for key, field in Stack.model_fields.items() if model_in(field.annotation)]
    for span in spans(page):
        if span in FILES:
            continue
        if re.fullmatch(rf"({'|'.join(sections)})(\.[a-z_]+)+(: .*)?", span):
            assert is_setting(span.partition(":")[0].split(".")), span


FILES = {"trading.halt", "trading.json", "journal.quarantined"} | {
    f"journal.{name}" for name in ("reserve", "identity", "highest")
}
"""Names of files, and of a field of `/health`, that look like settings."""


def is_setting(path: list[str]) -> bool:
    """Whether a dotted name leads to a field of stack.yaml."""
    model: type[BaseModel] | None = Stack
    for key in path:
        if model is None or key not in model.model_fields:
            return False
        model = model_in(model.model_fields[key].annotation)
    return True


YAML = [block for page in PAGES for block in blocks(page, "yaml")]


@pytest.mark.parametrize("block", YAML, ids=str)
def test_yaml_is_a_configuration(block: Block, tmp_path: Path) -> None:
    """A whole stack.yaml, some sections of a target, or a scenario of the simulator."""
    values: Any = yaml.safe_load(block.text)
    file = tmp_path / "stack.yaml"
    if isinstance(values, list):
        file.write_text(block.text)
        assert scenario.load(str(file))
        return
    whole = values if "targets" in values else {"targets": {"prod": around(values)}}
    for target in whole["targets"]:
        assert wrong(yaml.safe_dump(whole), str(file), target) <= {"missing-secret"}


def wrong(text: str, file: str, target: str) -> set[str]:
    """The codes of the configuration's problems."""
    try:
        load_text(text, file, target)
    except ConfigError as error:
        return {problem.code for problem in error.problems()}
    return set()


def around(sections: dict[str, Any]) -> dict[str, Any]:
    """Sections as the target they would stand in."""
    password = {"command": "echo secret"}
    gateway = {"username": "alice", "password": password, **sections.get("gateway", {})}
    return {"host": "local", **sections, "gateway": gateway}


@pages
def test_routes_that_are_named_exist(page: Path) -> None:
    known = {re.sub(r"\{\w+\}", "*", path) for path in interface()["paths"]}
    for span in spans(page):
        for path in re.findall(
            r"^[A-Z,]*(?:GET|POST|PUT|PATCH|DELETE) (/[^ ?{=]*(?:\{\w+\})?[^ ?]*)", span
        ):
            found = re.sub(r"\{[\w]+\}|\bID\b|…", "*", path)
            assert found in known or page.name in ELSEWHERE, span


ELSEWHERE = {"simulator.md", "simulated-trading.md", "client-portal.md"}
"""Pages about the simulator's control port and the broker's own Web API."""

JSON = [block for page in PAGES for block in blocks(page, "json")]
STREAM = {"op", "channel", "symbols", "contracts", "conIds", "id", "key", "session", "lastSeq"}


@pytest.mark.parametrize("block", JSON, ids=str)
def test_json_has_members_that_the_interface_knows(block: Block) -> None:
    known = STREAM | set(properties(interface()))
    decoder, text = json.JSONDecoder(), block.text.strip()
    while text:
        value, end = decoder.raw_decode(text)
        assert set(members(value)) <= known, value
        text = text[end:].strip()


def properties(part: Any) -> Iterator[str]:
    """Every name that a schema in the OpenAPI document describes."""
    if isinstance(part, dict):
        yield from part.get("properties", {})
        for value in part.values():
            yield from properties(value)
    elif isinstance(part, list):
        for value in part:
            yield from properties(value)


def members(value: Any) -> Iterator[str]:
    """Every member name of a JSON value."""
    if isinstance(value, dict):
        yield from value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from members(inner)
