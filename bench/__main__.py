"""`python -m bench [MODULE ...]`: measures, beside the alternatives, and prints one table.

Each module of this folder that has a function `figures() -> list[Figure]` takes part.
Exit code 1 when a bar is not kept, 2 for a module that does not exist.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bench import Figure

WIDTH = 140
"""Characters in a line where there is no terminal."""
NOT_MEASURED = ("figure", "__init__", "__main__")


def modules() -> list[str]:
    """The bench modules, by name."""
    names = sorted(each.stem for each in Path(__file__).parent.glob("*.py"))
    return [name for name in names if name not in NOT_MEASURED and not name.startswith("_")]


def shown(value: float | None) -> str:
    """A number for people: three significant digits, thousands apart."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(results: dict[str, list[Figure]]) -> Table:
    """All figures, a section for each module."""
    view = Table(box=box.SIMPLE)
    for name in ("figure", "value", "bar", "kept", "alternative", "times better"):
        view.add_column(
            name, no_wrap=True, justify="left" if name in ("figure", "alternative") else "right"
        )
    for module, figures in results.items():
        view.add_section()
        for each in figures:
            sign = "≥" if each.least else "≤"
            bar = f"{sign} {shown(each.bar)}" if each.bar is not None else ""
            kept = {True: "yes", False: "[red]no[/red]", None: ""}[each.kept]
            beside = f"{shown(each.alternative)}{each.beside}" if each.alternative else ""
            separator = "" if each.unit.startswith("/") else " "
            value = f"{shown(each.value)}{separator}{each.unit}"
            view.add_row(f"{module}: {each.name}", value, bar, kept, beside, shown(each.ratio))
    return view


def main(wanted: list[str]) -> int:
    """Measure the wanted modules, or all of them."""
    known = modules()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"error: no bench is called {unknown[0]}; there are {', '.join(known)}")
        return 2
    # As on a user's machine: whoever forbids to keep compiled modules measures the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results: dict[str, list[Figure]] = {}
    for name in wanted or known:
        measure = getattr(importlib.import_module(f"bench.{name}"), "figures", None)
        if measure is None:
            continue
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        results[name] = measure()
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else WIDTH).print(table(results))
    figures = [each for group in results.values() for each in group]
    return 1 if any(each.kept is False for each in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
