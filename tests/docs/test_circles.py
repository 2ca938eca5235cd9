"""Imports go one way: no modules in a circle, and no arrow against docs/architecture.md.

An import for types alone counts, and so does one inside a function: whoever reads the one module
has to know the other.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = ("bridge", "infrastructure", "simulator")

AGAINST = (
    ("bridge", "infrastructure"),
    ("bridge", "simulator"),
    ("simulator", "infrastructure"),
    ("bridge.store", "bridge.orders"),
    ("bridge.settings", "bridge.portal"),
    ("bridge.tws", "bridge.api"),
    ("bridge.orders", "bridge.api"),
    ("infrastructure.config", "infrastructure.render"),
    ("infrastructure.render", "infrastructure.plan"),
    ("infrastructure.plan", "infrastructure.cli"),
    ("infrastructure.apply", "infrastructure.cli"),
    ("infrastructure.runtime", "infrastructure.apply"),
)
"""`(a, b)`: what is in a does not import b."""


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((PROJECT / package).rglob("*.py")):
            parts = path.relative_to(PROJECT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> dict[str, set[str]]:
    """Each module of ours with those of ours that it imports anywhere in its text."""
    known = modules()
    return {name: targets(path.read_text(encoding="utf-8"), known) for name, path in known.items()}


def targets(text: str, known: dict[str, Path]) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole path"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {one if one in known else str(node.module) for one in whole}
    return names & set(known)


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules that all reach each other (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.add(frozenset(stack[at:]))
            del stack[at:]

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


def test_a_circle_is_found_whatever_kind_of_import_closes_it() -> None:
    known = dict.fromkeys(("a", "a.b", "a.c", "a.d"), Path())
    texts = {
        "a": "import json",
        "a.b": "from a.c import x",
        "a.c": "if TYPE_CHECKING:\n    from a import d",
        "a.d": "def later():\n    import a.b",
    }
    graph = {name: targets(text, known) for name, text in texts.items()}
    assert circles(graph) == {frozenset({"a.b", "a.c", "a.d"})}
    assert circles({**graph, "a.d": set()}) == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert sorted(map(sorted, circles(imports()))) == []


@pytest.mark.parametrize(("within", "not_to"), AGAINST)
def test_no_arrow_goes_against_the_architecture(within: str, not_to: str) -> None:
    def below(folder: str, name: str) -> bool:
        return name == folder or name.startswith(f"{folder}.")

    found = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in sorted(others)
        if below(within, name) and below(not_to, other)
    ]
    assert found == []
    assert any(below(within, name) for name in modules()), "the folder is called so no more"
    assert any(below(not_to, name) for name in modules()), "the folder is called so no more"
