"""Which line of a log explains why a program ended."""

from __future__ import annotations

import pytest

from infrastructure.health.explain import LONGEST, explaining

PYTHON = """
{"event": "starting", "level": "info"}
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "/app/bridge/__main__.py", line 9, in <module>
    from bridge.process import main
  File "/usr/lib/python3/site-packages/msgspec/x.py", line 3, in f
    raise ValueError("no")
ValueError: no
"""
BUILD = """
#12 3.4 ERROR: No matching distribution found for nothere==1
------
#12 ERROR: process "/bin/sh -c pip install" did not complete successfully: exit code: 1
failed to solve: process "/bin/sh -c pip install"
"""


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("hello\nbye\n\n", "bye"),
        ("Invalid maximum heap size: -Xmx512mm\nError: Could not", "-Xmx512mm"),
        ("Error occurred during initialization of VM\nToo small maximum heap\n", "Too small"),
        ("# There is insufficient memory for the Java Runtime\n# more", "There is insufficient"),
        (PYTHON, "ValueError: no (bridge/__main__.py, line 9)"),
        (BUILD, "ERROR: No matching distribution found for nothere==1"),
        ("error: the key file is not there\ndone", "error: the key file is not there"),
        ("the ValueError: of a sentence\nfatal: no space", "fatal: no space"),
    ],
)
def test_the_line(log: str, line: str) -> None:
    found = explaining(log)
    assert line in found
    assert bool(found) == bool(log)


def test_a_line_is_never_longer_than_a_message() -> None:
    assert len(explaining("error: " + "x" * 10_000)) == LONGEST
