"""Samples mutants of a package and runs its quick tests on each; see scripts/mutants.

Cosmic Ray finds and makes the mutants; runs with .venv-mutants, the tests with .venv.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PACKAGES = {
    "plan": ("infrastructure/plan", "tests/deploy/test_plan.py"),
    "health": ("infrastructure/health", "tests/deploy/health tests/deploy/apply/test_gate.py"),
    "gate": (
        "infrastructure/apply/host/health_gate.py",
        "tests/deploy/health/test_health_gate.py tests/deploy/apply/test_gate.py",
    ),
    "apply": (
        "infrastructure/apply/host/deploy.py",
        "tests/deploy/apply/test_deploy.py tests/deploy/apply/test_gate.py",
    ),
    "stream": ("bridge/stream", "tests/bridge/stream"),
    "tws": ("bridge/tws", "tests/bridge/tws"),
    "orders": ("bridge/orders", "tests/bridge/orders"),
}
"""Name: what is changed (a folder or a file), and the tests that should notice. The last three
take from 20 s to 6 minutes a mutant."""
SLACK = 3.0
"""A mutant may take so many times as long as the unchanged code; longer counts as killed."""
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
    """Every mutant of a folder or a file, but those of annotations (`int | None`)."""
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
        if "BinaryOperator_BitOr" not in one.operator_name
    ]


def run(tree: Path, name: str, count: int, seed: int, until: float) -> tuple[int, list[str]]:
    """How many were killed, and the survivors' places and changes."""
    from cosmic_ray.mutating import mutate_and_test
    from cosmic_ray.work_item import TestOutcome, WorkerOutcome

    source, tests = PACKAGES[name]
    python = shlex.quote(str(ROOT / ".venv/bin/python"))
    command = f"{python} -m pytest -q -x -p no:cacheprovider {tests}"
    began = time.monotonic()
    unchanged = subprocess.run(
        shlex.split(command), check=False, cwd=tree, stdout=subprocess.DEVNULL
    )
    if unchanged.returncode:
        print(f"error: {name}: the unchanged code does not pass: {tests}", file=sys.stderr)
        raise SystemExit(1)
    limit = 5 + SLACK * (time.monotonic() - began)
    mutants = found(tree, source)
    chosen = random.Random(seed).sample(mutants, min(count, len(mutants)))  # noqa: S311
    killed, survivors = 0, []
    for mutant in chosen:
        if time.monotonic() > until:
            break
        result = mutate_and_test([mutant], command, limit)
        if result.worker_outcome != WorkerOutcome.NORMAL:
            continue
        if result.test_outcome == TestOutcome.SURVIVED:
            place = f"{Path(mutant.module_path).relative_to(tree)}:{mutant.start_pos[0]}"
            survivors.append(f"{place} {mutant.operator_name.removeprefix('core/')}")
        else:
            killed += 1
    return killed, survivors


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
            killed, survivors = run(tree, name, options.count, options.seed, until)
            print(f"{name}: {killed} killed, {len(survivors)} survived", flush=True)
            for one in survivors:
                print(f"  survived: {one}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
