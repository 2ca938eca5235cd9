"""`python -m bench [--page FILE] [MODULE ...]`: measures, beside the alternatives.

It prints one table; with `--page` it writes a page, too, with the machine and its load. Each module
of this folder that has a function `figures() -> list[Figure]` takes part.
Exit code 1 when a bar is not kept, 2 for a module that does not exist.
"""

from __future__ import annotations

import importlib
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bench import Figure

WIDTH = 170
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
            name, value, bar, kept, beside = cells(each)
            kept = "[red]no[/red]" if kept == "no" else kept
            view.add_row(f"{module}: {name}", value, bar, kept, beside, shown(each.ratio))
    return view


PAGE = """\
# Performance

`make bench` measures every figure of this page in one run, and writes the page. A bar is what a
figure is held to; the alternative is the same thing done another way, in the same run. A machine
that does other work at the same time is slower than these figures could be.

"""


def page(results: dict[str, list[Figure]], machine: str) -> str:
    """The same as a page of the documentation."""
    text = f"{PAGE}{machine}\n"
    missing = [name for name in modules() if name not in results]
    if missing:
        text += f"\nNot measured in this run: {', '.join(missing)}.\n"
    for module, figures in results.items():
        purpose = (importlib.import_module(f"bench.{module}").__doc__ or "").partition("\n")[0]
        text += f"\n## {module}\n\n{purpose}\n\n"
        text += "| figure | value | bar | kept | alternative |\n|---|---|---|---|---|\n"
        for each in figures:
            text += "| " + " | ".join(cells(each)) + " |\n"
    return text


def cells(figure: Figure) -> tuple[str, str, str, str, str]:
    """Name, value, bar, whether it is kept, alternative."""
    sign = "≥" if figure.least else "≤"
    separator = "" if figure.unit.startswith("/") else " "
    return (
        figure.name,
        f"{shown(figure.value)}{separator}{figure.unit}".strip(),
        f"{sign} {shown(figure.bar)}" if figure.bar is not None else "",
        {True: "yes", False: "no", None: ""}[figure.kept],
        f"{shown(figure.alternative)}{figure.beside}" if figure.alternative else "",
    )


def machine_now() -> str:
    """What this machine is, and what else it does."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Measured on {datetime.now(UTC).date()}: {os.cpu_count()} processors, {memory:.0f} GB,"
        f" Linux {platform.release()}, Python {platform.python_version()}.\nOther work kept the"
        f" machine at a load of {os.getloadavg()[2]:.1f} in the 15 minutes before the run."
    )


def main(arguments: list[str]) -> int:
    """Measure the wanted modules, or all of them."""
    wanted, path = list(arguments), None
    if wanted[:1] == ["--page"]:
        if len(wanted) < 2:
            print("error: --page wants the name of a file")
            return 2
        path, wanted = Path(wanted[1]), wanted[2:]
    known, machine = modules(), machine_now()
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"error: no bench is called {unknown[0]}; there are {', '.join(known)}")
        return 2
    # As on a user's machine: whoever forbids to keep compiled modules measures the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its processes end with it
    results: dict[str, list[Figure]] = {}
    for name in wanted or known:
        measure = getattr(importlib.import_module(f"bench.{name}"), "figures", None)
        if measure is None:
            continue
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        results[name] = measure()
        if path is not None:  # a run that is ended leaves what it had measured
            path.write_text(page(results, machine), encoding="utf-8")
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else WIDTH).print(table(results))
    figures = [each for group in results.values() for each in group]
    return 1 if any(each.kept is False for each in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
