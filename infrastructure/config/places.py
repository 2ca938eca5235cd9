"""stack.yaml as plain values, with the line and column of every key and value.

YAML 1.2's core schema is used, not 1.1's: `no` stays a word, and `23:59` stays a time instead of
becoming 1439. Booleans written `yes`/`no` still work where a boolean is wanted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from infrastructure.errors import Place, Problem

Path = tuple[str | int, ...]
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


@dataclass
class Document:
    """A parsed file: its values, and where each stands."""

    file: str
    values: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False, strip: int = 0) -> Place:
        """Where the value (or its key) stands; of the nearest parent when it is not in the file.

        `strip` leaves out that many leading parts of the shown path (`targets.prod.`).
        """
        shown = ".".join(str(part) for part in path[strip:])
        nearest = path
        while nearest and nearest not in self.positions:
            nearest = nearest[:-1]
        table = self.keys if (key or nearest != path) and nearest in self.keys else self.positions
        line, column = table.get(nearest, (0, 0))
        return Place(self.file, line, column, shown)


def parse(text: str, file: str) -> Document:
    """Reads YAML text. Syntax errors and duplicate keys become problems, never exceptions."""
    document = Document(file)
    try:
        root = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        message = " ".join(str(error.problem or error.context or "not valid YAML").split())
        document.problems.append(
            Problem(f"not valid YAML: {message}", place, _syntax_hint(message))
        )
        return document
    except yaml.YAMLError as error:
        document.problems.append(Problem(f"not valid YAML: {error}", Place(file)))
        return document
    if root is not None:
        document.values = _Reader(document).read(root, ())
    return document


def _syntax_hint(message: str) -> str:
    if "\\t" in message:
        return "indent with spaces, not tabs"
    return "look for a missing colon, quote or indent on this line or the one before"


@dataclass
class _Reader:
    """Walks the node tree: values out, positions noted on the way."""

    document: Document
    _constructor: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))

    def read(self, node: yaml.Node, path: Path) -> Any:
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
                for source in self._merged(value_node):
                    merged = self.read(source, path)
                    values |= {key: merged[key] for key in merged if key not in own}
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

    @staticmethod
    def _merged(node: yaml.Node) -> list[yaml.MappingNode]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        return [item for item in nodes if isinstance(item, yaml.MappingNode)]

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

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind not in {"str", "int", "float", "bool", "null"}:
            line, column = self.document.positions[path]
            self.document.problems.append(
                Problem(
                    f"the YAML tag '{node.tag}' is not supported",
                    Place(self.document.file, line, column, ".".join(map(str, path))),
                    "write the plain value",
                )
            )
            return str(node.value)
        if kind == "int":
            return int(node.value)
        if kind == "str":
            return node.value
        return self._constructor.construct_object(node)
