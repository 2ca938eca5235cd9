"""`python -m bench [--page FILE] [--share CORE] [MODULE ...]`: measures, beside the alternatives.

It prints one table; with `--page` it writes a page, too, with the machine and its load. Each module
of this folder that has a function `figures() -> list[Figure]` takes part. With `--share 0.25` the
bridge's figures are measured once more with the bridge alone held to a quarter of a core (root).
Exit code 1 when a bar is not kept, 2 for a module that does not exist.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from bench.rig.processes import limits
from tests.soak.share import share_of_a_core

if TYPE_CHECKING:
    from bench import Figure

HEADS = ("bar", "kept", "alternative")
WIDTH = 170
"""Characters in a line where there is no terminal."""
SHARED = ("bridge",)
"""Modules whose figures are measured on a share of a core, too."""
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
    for name in ("figure", "value", "on the share", "bar", "kept", "alternative", "times better"):
        view.add_column(
            name, no_wrap=True, justify="left" if name in ("figure", "alternative") else "right"
        )
    for module, figures in results.items():
        view.add_section()
        for each in figures:
            name, value, *shared, bar, kept, beside = cells(each, shared=True)
            kept = "[red]no[/red]" if kept == "no" else kept
            view.add_row(f"{module}: {name}", value, *shared, bar, kept, beside, shown(each.ratio))
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
        shared = any(each.shared is not None for each in figures)
        heads = ("figure", "value", *(["on the share"] if shared else []), *HEADS)
        text += f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}\n"
        for each in figures:
            text += "| " + " | ".join(cells(each, shared=shared)) + " |\n"
    return text


def cells(figure: Figure, *, shared: bool) -> tuple[str, ...]:
    """Name, value, the value on a share of a core, bar, whether it is kept, alternative."""
    sign = "≥" if figure.least else "≤"
    return (
        figure.name,
        with_unit(figure.value, figure.unit),
        *([with_unit(figure.shared, figure.unit)] if shared else []),
        f"{sign} {shown(figure.bar)}" if figure.bar is not None else "",
        {True: "yes", False: "no", None: ""}[figure.kept],
        f"{shown(figure.alternative)}{figure.beside}" if figure.alternative else "",
    )


def with_unit(value: float | None, unit: str) -> str:
    """`3.5 ms`, `800/s`; empty for a value that was not measured."""
    if value is None:
        return ""
    return f"{shown(value)}{'' if unit.startswith('/') else ' '}{unit}".strip()


def measured(name: str, share: float | None) -> list[Figure] | None:
    """A module's figures, on a share of a core, too; None for one that has none."""
    measure = getattr(importlib.import_module(f"bench.{name}"), "figures", None)
    if measure is None:
        return None
    figures: list[Figure] = measure()
    if share is None or name not in SHARED:
        return figures
    print(f"measuring {name} on {share:g} of a core ...", file=sys.stderr, flush=True)
    with share_of_a_core(share) as group:
        limits.append(group.before)
        try:
            values = {each.name: each.value for each in measure()}
        finally:
            limits.clear()
    return [replace(each, shared=values.get(each.name)) for each in figures]


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
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--page", type=Path, help="a page of the documentation to write")
    parser.add_argument("--share", type=float, help="of a core, for the bridge: one more column")
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    asked = parser.parse_args(arguments)
    known, machine = modules(), machine_now()
    unknown = [name for name in asked.modules if name not in known]
    if unknown:
        print(f"error: no bench is called {unknown[0]}; there are {', '.join(known)}")
        return 2
    # As on a user's machine: whoever forbids to keep compiled modules measures the compiler.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # its processes end with it
    if asked.share is not None:
        machine += f' "On the share": with the bridge alone held to {asked.share:g} of a core.'
    results: dict[str, list[Figure]] = {}
    for name in asked.modules or known:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        found = measured(name, asked.share)
        if found is not None:
            results[name] = found
        if asked.page is not None:  # a run that is ended leaves what it had measured
            asked.page.write_text(page(results, machine), encoding="utf-8")
    terminal = sys.stdout.isatty()
    Console(width=None if terminal else WIDTH).print(table(results))
    figures = [each for group in results.values() for each in group]
    return 1 if any(each.kept is False for each in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
