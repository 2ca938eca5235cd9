"""Samples mutants of a package and runs the tests that reach each; see scripts/mutants.

Cosmic Ray finds and makes the mutants; runs with .venv-mutants, the tests with .venv. One run with
coverage tells which tests enter which line and how long they take: a mutant meets the quickest of
those of its line, and when it survives them, the others. What no test reaches has survived.

A mutant counts as killed only when what failed passes without it, right afterwards: a test that
also fails on the unchanged code, because the machine is busy, has noticed nothing. Nor has one that
takes too long, as long as the unchanged code takes too long as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

PACKAGES = {
    "plan": ("infrastructure/plan", "tests/deploy/test_plan.py tests/deploy/test_render.py"),
    "health": (
        "infrastructure/health",
        "tests/deploy/health tests/deploy/apply/test_gate.py tests/deploy/test_healthcheck.py",
    ),
    "apply": (
        "infrastructure/apply/host",
        "tests/deploy/apply tests/deploy/health/test_health_gate.py",
    ),
    "orders": ("bridge/orders", "tests/bridge/orders"),
    "stream": ("bridge/stream", "tests/bridge/stream"),
    "tws": ("bridge/tws", "tests/bridge/tws tests/bridge/market"),
}
"""Name: what is changed (a folder or a file), and where the tests are that should notice."""
SLACK = 4.0
"""A mutant may take so many times as long as the unchanged code."""
STARTUP = 20.0
"""Seconds that a run may take more, for a busy machine."""
QUICKEST = 12
"""So many tests see a mutant first."""
SLOWEST = 120.0
"""Seconds of tests that see it at most."""
LOOKING = 5.0
"""Seconds of tests that see a line of an import besides, without entering its file."""
DOUBTS = 3
"""So often a test that fails on the unchanged code, too, is left out before a mutant survives."""
BASELINE = 3600.0
"""Seconds for all tests of a package, once."""
COMMON = ("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
ALONE = ("-q", "-x", "--no-cov", *COMMON)
ROOT = Path(__file__).resolve().parent.parent


def copy(target: Path) -> None:
    """The tree as it is now, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def found(tree: Path, source: str) -> list[Any]:
    """Every mutant of a folder or a file, but those of types."""
    from cosmic_ray.commands import init
    from cosmic_ray.work_db import WorkDB, use_db

    place = tree / source
    modules = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    with use_db(str(tree / "mutants.sqlite"), WorkDB.Mode.create) as db:
        init(modules, db, {})
        items = [item.mutations[0] for item in db.work_items]
    return [
        one
        for one in sorted(
            items, key=lambda one: (str(one.module_path), one.operator_name, one.occurrence)
        )
        if "BinaryOperator_BitOr" not in one.operator_name and not is_for_types(one)
    ]


def is_for_types(one: Any) -> bool:
    """Whether it changes a line that only a type checker reads."""
    line = Path(one.module_path).read_text().splitlines()[one.start_pos[0] - 1]
    return "TYPE_CHECKING" in line


def equivalents() -> set[tuple[str, str, str]]:
    """File, operator and line of the mutants that change nothing; the list has the reasons."""
    rows = (ROOT / "scripts/mutants-equivalent.txt").read_text().splitlines()
    parts = [row.split(" | ") for row in rows if row and not row.startswith("#")]
    return {(file, operator, line) for file, operator, line, _ in parts}


class Reach(NamedTuple):
    """Which tests enter a line, and what each takes in seconds."""

    lines: dict[tuple[str, int], set[str]]
    imported: set[tuple[str, int]]
    seconds: dict[str, float]

    def of(self, mutant: Any, tree: Path) -> list[str]:
        """The tests of a mutant's lines, quickest first, within `SLOWEST`."""
        name = str(Path(mutant.module_path).relative_to(tree))
        first, last = mutant.start_pos[0], mutant.end_pos[0]
        tests = set[str]().union(
            *(self.lines.get((name, line), set()) for line in range(first, last + 1))
        )
        if not tests and any((name, line) in self.imported for line in range(first, last + 1)):
            # run once, by the import: whoever enters the file may notice, and whoever looks at it
            tests = set[str]().union(*(found for at, found in self.lines.items() if at[0] == name))
            return [*self.within(tests, SLOWEST), *self.within({*self.seconds} - tests, LOOKING)]
        return self.within(tests, SLOWEST)

    def within(self, tests: set[str], seconds: float) -> list[str]:
        """Those that take so long together, the quickest first, and one at least."""
        chosen: list[str] = []
        total = 0.0
        for test in sorted(tests, key=lambda test: self.seconds.get(test, 0.0)):
            total += self.seconds.get(test, 0.0)
            if chosen and total > seconds:
                break
            chosen.append(test)
        return chosen


class Runner:
    """Runs tests in the tree, each time in a fork of a process that has loaded the libraries."""

    def __init__(self, tree: Path) -> None:
        self._process = subprocess.Popen(
            [str(ROOT / ".venv/bin/python"), str(ROOT / "scripts/mutants_tests.py")],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, arguments: list[str], seconds: float, *, keep: bool = False
    ) -> tuple[int | None, list[str]]:
        """Pytest's exit code (None: it took longer), and which tests failed."""
        assert self._process.stdin is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        asked = {"arguments": arguments, "seconds": seconds, "keep": keep}
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        found = json.loads(self._process.stdout.readline())
        return found["code"], found["failed"]

    def close(self) -> None:
        self._process.communicate()


def reach(tree: Path, source: str, tests: str, runner: Runner) -> Reach:
    """Runs the tests once on the unchanged code; SystemExit when one fails twice."""
    import sqlite3

    data, report = tree / ".coverage-mutants", tree / "report.xml"
    (tree / ".coveragerc-mutants").write_text(
        f"[run]\ndata_file = {data}\nsource = {source}\nbranch = false\n"
    )
    collected = ["--collect-only", "-q", *COMMON, *tests.split()]
    runner.run(collected, BASELINE, keep=True)
    code, failed = runner.run(
        [
            *(
                "-q",
                *COMMON,
                "-m",
                "not engine and not browser and not slow and not serial",
                f"--junit-xml={report}",
            ),
            *(f"--cov={source}", "--cov-config=.coveragerc-mutants", "--cov-context=test"),
            *("--cov-report=", *tests.split()),
        ],
        BASELINE,
        keep=True,
    )
    if code != 0 and not (failed and runner.run([*ALONE, *failed], BASELINE)[0] == 0):
        print(f"error: the unchanged code does not pass: {tests}", file=sys.stderr)
        print("\n".join(failed), file=sys.stderr)
        raise SystemExit(1)
    lines: dict[tuple[str, int], set[str]] = {}
    imported: set[tuple[str, int]] = set()
    with sqlite3.connect(data) as connection:
        rows = connection.execute(
            "SELECT path, context, numbits FROM line_bits JOIN file ON file.id = file_id"
            " JOIN context ON context.id = context_id"
        )
        for path, context, bits in rows:
            test = context.partition("|")[0]
            name = str(Path(path).relative_to(tree))
            for number in numbers(bits):
                if test:
                    lines.setdefault((name, number), set()).add(test)
                else:
                    imported.add((name, number))
    return Reach(lines, imported, durations(report))


def numbers(bits: bytes) -> list[int]:
    """The line numbers in one of coverage's sets of bits."""
    return [
        byte * 8 + bit for byte, value in enumerate(bits) for bit in range(8) if value & (1 << bit)
    ]


def durations(report: Path) -> dict[str, float]:
    """Seconds by test, named as pytest takes them."""
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        module = case.get("classname", "").replace(".", "/")
        found[f"{module}.py::{case.get('name')}"] = float(case.get("time", 0))
    return found


def run(tree: Path, name: str, count: int, seed: int, until: float) -> tuple[int, int]:
    """How many were killed and how many survived; each survivor is printed as it is found."""
    source, tests = PACKAGES[name]
    runner = Runner(tree)
    reached = reach(tree, source, tests, runner)
    mutants = found(tree, source)
    chosen = random.Random(seed).sample(mutants, min(count * 2, len(mutants)))  # noqa: S311
    killed = survived = 0
    same = equivalents()
    for mutant in chosen:
        if time.monotonic() > until or killed + survived == count:
            break
        why = meets(tree, mutant, reached, runner)
        if why is None:
            continue  # not a program any more
        file, at = str(Path(mutant.module_path).relative_to(tree)), mutant.start_pos[0]
        operator = mutant.operator_name.removeprefix("core/")
        line = Path(mutant.module_path).read_text().splitlines()[at - 1].strip()
        if why and (file, operator, line) in same:
            print(
                f"  the same: {file}:{at} {operator} (scripts/mutants-equivalent.txt)", flush=True
            )
        elif why:
            survived += 1
            print(f"  survived: {file}:{at} {operator} ({why}) | {line}", flush=True)
        else:
            killed += 1
    runner.close()
    return killed, survived


def meets(tree: Path, mutant: Any, reached: Reach, runner: Runner) -> str | None:
    """Why it survives ("" when it is killed); None when it is no program."""
    from cosmic_ray.mutating import use_mutation
    from cosmic_ray.plugins import get_operator

    if is_marker(mutant):  # asked of the line as it was
        return None
    operator = get_operator(mutant.operator_name)(**(mutant.operator_args or {}))
    with use_mutation(Path(mutant.module_path), operator, mutant.occurrence) as (_, changed):
        if changed is None or not is_program(changed):
            return None
    tests = reached.of(mutant, tree)
    if not tests:
        return "no test reaches it"
    for part in (tests[:QUICKEST], tests[QUICKEST:]):
        left = list(part)
        for _ in range(DOUBTS):
            if not left:
                break
            limit = STARTUP + SLACK * sum(reached.seconds.get(test, 1.0) for test in left)
            with use_mutation(Path(mutant.module_path), operator, mutant.occurrence):
                code, failed = runner.run([*ALONE, *left], limit)
            if code == 0:
                break
            # noticed, if all is well without it
            if runner.run([*ALONE, *(failed or left)], limit)[0] == 0:
                return ""
            left = [test for test in left if failed and test not in failed]
    return f"{len(tests)} tests saw it"


def is_marker(mutant: Any) -> bool:
    """Whether it changes how a thing may be called, and nothing of what it does when it is called.

    The `*,` between parameters, and `kw_only=True`, which is the same for a record: who names all
    that he hands over, as a type checker sees to, gets the same of both.
    """
    line = Path(mutant.module_path).read_text().splitlines()[mutant.start_pos[0] - 1]
    before, after = line[: mutant.start_pos[1]], line[mutant.start_pos[1] :]
    if "BinaryOperator_Mul" in mutant.operator_name:
        return after.startswith("*,")
    return "ReplaceTrueWithFalse" in mutant.operator_name and before.endswith("kw_only=")


def is_program(text: str) -> bool:
    """Whether Python takes it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `is` with a literal is a program, too
            compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def main() -> int:
    """Reads the options, and prints a line for each package."""
    parser = argparse.ArgumentParser(prog="scripts/mutants")
    parser.add_argument("packages", nargs="*", metavar="PACKAGE")
    parser.add_argument("--count", type=int, default=60, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30.0, help="for all together")
    options = parser.parse_args()
    unknown = [name for name in options.packages if name not in PACKAGES]
    if unknown:
        parser.error(f"no package {unknown[0]}: {', '.join(PACKAGES)}")
    until = time.monotonic() + options.minutes * 60
    with tempfile.TemporaryDirectory(prefix="gangway-mutants-") as folder:
        tree = Path(folder).resolve()
        copy(tree)
        os.chdir(tree)  # Cosmic Ray runs the tests where it is: they must see the changed copy
        for name in options.packages or PACKAGES:
            if time.monotonic() > until:
                print(f"{name}: not begun, the time is over", flush=True)
                continue
            began = time.monotonic()
            killed, survived = run(tree, name, options.count, options.seed, until)
            took = time.monotonic() - began
            share = 100 * killed / max(1, killed + survived)
            print(
                f"{name}: {killed} killed, {survived} survived, {share:.0f} % ({took:.0f} s)",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
