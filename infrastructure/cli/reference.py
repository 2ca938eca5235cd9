"""Writes the generated files (scripts/reference)."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING

from infrastructure.cli import HELP_FILE
from infrastructure.config.reference import markdown
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from pathlib import Path


def help_text() -> str:
    """What typer prints for `./deploy.py --help`, 80 columns wide."""
    from infrastructure.cli.app import app

    before, printed = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(printed):
            app(["--help"], prog_name="deploy.py", standalone_mode=False)
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return printed.getvalue()


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        PROJECT / "docs" / "configuration.md": markdown(),
        HELP_FILE: help_text(),
    }


if __name__ == "__main__":
    for path, content in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
