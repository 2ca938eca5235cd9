"""The pages as data: blocks with their language, code spans, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]
)

_FENCE = re.compile(r"^```(\w*)\s*$")
_NOT_RUN = re.compile(r"^<!-- not run here: (.+) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `not_run` is the reason that the page's source gives above it."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Its lines without comments and blanks; a line that goes on is one with the next."""
        text = re.sub(r"\\\n\s*", "", self.text)
        lines = (re.sub(r"\s+#\s.*$", "", line).strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]


def name(page: Path) -> str:
    """The page as a person would name it."""
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path, language: str) -> list[Block]:
    """The page's blocks of this language, from top to bottom."""
    found, opened, before = [], None, ""
    collected: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None and fence:
            reason = _NOT_RUN.match(before)
            opened = (number, fence[1], reason[1] if reason else "")
            collected = []
        elif opened is not None and fence:
            found.append(Block(page, opened[0], opened[1], "\n".join(collected) + "\n", opened[2]))
            opened = None
        elif opened is not None:
            collected.append(line)
        before = line
    assert opened is None, f"{name(page)}: a block is not closed"
    return [block for block in found if block.language == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```\s*$", "", text, flags=re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def links(page: Path) -> list[str]:
    """The targets of the page's links to other places of this project."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page)))
    return [target for target in found if not target.startswith(("http://", "https://"))]


def anchors(page: Path) -> set[str]:
    """The page's headings as they are linked to."""
    headings = re.findall(r"^#{1,6} (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}
