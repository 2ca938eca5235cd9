"""stack.yaml as plain values, with the line and column of every key and value.

YAML 1.2's core schema is used, not 1.1's: `no` stays a word, and `23:59` stays a time instead of
becoming 1439. Booleans written `yes`/`no` still work where a boolean is wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from infrastructure.config.document import Document, Path
from infrastructure.errors import Place, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 40
"""Levels of nesting; libyaml would go on until the stack is full."""
MOST_VALUES = 20_000
"""Values that a file may unfold to: aliases of aliases grow without bound."""
_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _CoreLoader(_Loader):  # type: ignore[misc, valid-type]
    """SafeLoader with the implicit types of YAML 1.2's core schema."""


_CoreLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("merge", r"^<<$", "<"),
):
    _CoreLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first)
    )


LONGEST_NUMBER = 40


def parse(text: str, file: str) -> Document:
    """Reads YAML text. Syntax errors and duplicate keys become problems, never exceptions."""
    document = Document(file)
    try:
        too_deep = _too_deep(text)
        root = None if too_deep else yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        message = " ".join(str(error.problem or error.context or "not valid YAML").split())
        lines = [*text.split("\n"), ""]  # an end of the file may be told of as one line more
        if mark and "\t" in lines[mark.line][: mark.column + 1]:
            tab = Problem("a tab, where YAML takes only spaces", place, "indent with spaces")
            document.problems.append(tab)
            return document
        document.problems.append(
            Problem(f"not valid YAML: {message}", place, _syntax_hint(message))
        )
        return document
    except yaml.YAMLError as error:
        document.problems.append(Problem(f"not valid YAML: {error}", Place(file)))
        return document
    if too_deep:
        place = Place(file, *too_deep)
        document.problems.append(Problem(f"nested deeper than {DEEPEST} levels", place))
    if root is not None:
        try:
            document.values = _Reader(document).read(root, ())
        except _EndlessError as error:
            document.problems = [Problem(str(error), error.place, "write the values out")]
    return document


def _too_deep(text: str) -> tuple[int, int] | None:
    """Line and column where the text nests too deeply."""
    depth = 0
    for event in yaml.parse(text, Loader=_CoreLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            mark = event.start_mark
            if depth > DEEPEST and mark is not None:
                return mark.line + 1, mark.column + 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


class _EndlessError(Exception):
    """Aliases unfold to too much."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


def _syntax_hint(message: str) -> str:
    if "\\t" in message:
        return "indent with spaces, not tabs"
    return "look for a missing colon, quote or indent on this line or the one before"


@dataclass
class _Reader:
    """Walks the node tree: values out, positions noted on the way."""

    document: Document
    _constructor: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))
    _above: list[yaml.Node] = field(default_factory=list)
    _read: int = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._read += 1
        if self._read > MOST_VALUES:
            self._endless(node, f"the aliases unfold to more than {MOST_VALUES} values")
        if any(node is each for each in self._above):
            self._endless(node, "an alias stands within what it stands for")
        self._above.append(node)
        try:
            return self._value(node, path)
        finally:
            self._above.pop()

    def _endless(self, node: yaml.Node, message: str) -> NoReturn:
        mark = node.start_mark
        raise _EndlessError(message, Place(self.document.file, mark.line + 1, mark.column + 1))

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self.document.positions[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        own: set[str] = set()
        for key_node, value_node in node.value:
            if key_node.tag.endswith(":merge"):
                for source in self._merged(value_node, path):
                    merged = self.read(source, path)
                    values |= {key: merged[key] for key in merged if key not in own}
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._refuse(key_node, path, "a key must be a word", "write the plain name")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key in own:
                self._duplicate(key_node, here)
            own.add(key)
            self.document.keys[here] = (
                key_node.start_mark.line + 1,
                key_node.start_mark.column + 1,
            )
            values[key] = self.read(value_node, here)
        self.document.positions[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        return values

    def _merged(self, node: yaml.Node, path: Path) -> Iterator[yaml.MappingNode]:
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(item, yaml.MappingNode):
                yield item
            else:
                hint = "<<: *NAME, where a mapping has &NAME; or a list of such"
                self._refuse(item, path, "<< takes in mappings only", hint)

    def _duplicate(self, key_node: yaml.Node, path: Path) -> None:
        first = self.document.keys[path]
        mark = key_node.start_mark
        self.document.problems.append(
            Problem(
                f"'{path[-1]}' is set twice",
                Place(self.document.file, mark.line + 1, mark.column + 1, ".".join(map(str, path))),
                f"it is also on line {first[0]}: keep one of them",
                code="duplicate-key",
            )
        )

    def _refuse(self, node: yaml.Node, path: Path, message: str, hint: str) -> None:
        mark = node.start_mark
        place = Place(self.document.file, mark.line + 1, mark.column + 1, ".".join(map(str, path)))
        self.document.problems.append(Problem(message, place, hint))

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind not in {"str", "int", "float", "bool", "null"}:
            self._refuse(
                node, path, f"the YAML tag '{node.tag}' is not supported", "write the plain value"
            )
            return str(node.value)
        if kind == "int" and len(node.value) > LONGEST_NUMBER:
            self._refuse(node, path, "the number is too long", "")
            return 0
        if kind == "int":
            return int(node.value)
        if kind == "str":
            if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", node.value):
                self._refuse(node, path, "a control character does not belong here", "")
            return node.value
        return self._constructor.construct_object(node)
