"""Whatever the code can say has its line in docs/messages.md, and the same advice everywhere."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.login.lines import ROWS, events
from bridge.login.states import TROUBLES
from infrastructure.config.bridge import Bridge as StackBridge
from infrastructure.errors import GangwayError
from tests.docs.pages import PROJECT, spans

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = PROJECT / "docs" / "messages.md"
SERVICES = ("gateway", "bridge", "caddy", "portal")
CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
Tree = tuple[str, ast.Module]


def trees(package: str) -> list[Tree]:
    """Every module of the package with its name."""
    found = []
    for path in sorted((PROJECT / package).rglob("*.py")):
        module = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        found.append((module.removesuffix(".__init__"), ast.parse(path.read_text())))
    return found


def positions(package: list[Tree]) -> dict[str, set[int]]:
    """For what takes a `code` by position: its name and which argument that is."""
    found = defaultdict(set)
    for _, tree in package:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names = [each.arg for each in node.args.args]
                if "code" in names:
                    found[node.name].add(names.index("code") - (names[0] in {"self", "cls"}))
            elif isinstance(node, ast.ClassDef):
                found[node.name] |= own_position(node)
    found.pop("__init__", None)
    return found


def own_position(node: ast.ClassDef) -> set[int]:
    """Where a class takes its `code`: in `__init__`, or as a field of a data class."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            names = [each.arg for each in part.args.args]
            return {names.index("code") - 1} if "code" in names else set()
    annotated = [part.target for part in node.body if isinstance(part, ast.AnnAssign)]
    fields = [target.id for target in annotated if isinstance(target, ast.Name)]
    derived = "GangwayError" in {each.id for each in node.bases if isinstance(each, ast.Name)}
    return {fields.index("code")} if "code" in fields and not derived else set()


def values(tree: ast.Module, taken: dict[str, set[int]]) -> Iterator[ast.expr]:
    """Each expression that is given as a `code`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        yield from (node.args[at] for at in taken.get(called, ()) if at < len(node.args))


def said(value: ast.expr) -> Iterator[str]:
    """The codes that an expression can be; `f"{name}-ended"` is one for each service."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        if CODE.fullmatch(value.value):
            yield value.value
    elif isinstance(value, ast.JoinedStr):
        match value.values:
            case [ast.FormattedValue(), ast.Constant(value=str(tail))] if tail.startswith("-"):
                yield from (f"{service}{tail}" for service in SERVICES)
    elif isinstance(value, ast.IfExp):
        yield from said(value.body)
        yield from said(value.orelse)


def of_classes(module: str, root: type[Exception]) -> Iterator[str]:
    """The codes of the error classes that a module defines."""
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, type) and issubclass(value, root):
            yield str(vars(value).get("code") or getattr(value, "code", ""))


def codes(name: str, root: type[Exception]) -> set[str]:
    """Every code that a package can raise, told or put into an answer."""
    package = trees(name)
    taken = positions(package)
    found = {code for _, tree in package for value in values(tree, taken) for code in said(value)}
    for module, tree in package:
        if any(isinstance(node, ast.ClassDef) for node in tree.body):
            found.update(of_classes(module, root))
    return found - {""}


def told() -> set[str]:
    """What the pages of messages and of symptoms name."""
    return set(spans(PAGE)) | set(spans(PAGE.with_name("troubleshooting.md")))


@pytest.mark.parametrize(
    ("package", "root"), [("infrastructure", GangwayError), ("bridge", BridgeError)]
)
def test_every_code_has_its_line(package: str, root: type[Exception]) -> None:
    found = codes(package, root)
    assert len(found) > 60, sorted(found)
    assert {"locked", "store-busy"} & found
    assert sorted(found - told()) == []


def test_every_line_of_the_gateways_log_that_is_watched_is_explained() -> None:
    lines = told()
    of_ibc = ROWS[: next(n for n, row in enumerate(ROWS) if "LAUNCHING" in row.pattern)]
    assert len(of_ibc) > 30
    found = {event for line in lines for event, _ in events(f"IBC: {line}") + events(line)}
    assert {row.event for row in of_ibc} - found <= {"ignore", "opened"}


def test_the_way_codes_are_found() -> None:
    """Keyword, position and one code for each service."""
    tree = ast.parse("fail('one-thing', 'text')\nx(code='two')\nfail(f'{name}-ended')")
    found = {code for value in values(tree, {"fail": {0}}) for code in said(value)}
    assert found == {"one-thing", "two", *(f"{service}-ended" for service in SERVICES)}


@pytest.mark.parametrize("code", [code for code, trouble in TROUBLES.items() if trouble.held])
def test_a_held_login_has_one_advice(code: str) -> None:
    """The page ends in the command that the bridge, `status` and the alerts end in."""
    lines = PAGE.read_text().splitlines()
    rows = [line for line in lines if f"`{code}`" in line.partition("|")[2].partition("|")[0]]
    assert rows, code
    afresh = "restart gateway --cold"
    for row in rows:
        assert (afresh in row) == (afresh in TROUBLES[code].hint), row


def test_one_client_id_whoever_starts_the_bridge() -> None:
    """An order can only be changed by the id that placed it: deployed or by hand, one default."""
    default = StackBridge().client_id
    assert Environment().client_id == default
    reference = (PROJECT / "docs" / "bridge-reference.md").read_text()
    assert f"| `BRIDGE_CLIENT_ID` | `{default}` |" in reference
    configuration = (PROJECT / "docs" / "configuration.md").read_text()
    assert f"| `client_id` | whole number | `{default}` |" in configuration
