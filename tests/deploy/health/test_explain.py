"""Which line of a log explains why a program ended."""

from __future__ import annotations

import pytest

from infrastructure.health.explain import LONGEST, explaining, of_java

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

GAVE_UP = (
    "Error: Could not create the Java Virtual Machine.\n"
    "Error: A fatal exception has occurred. Program will exit.\n"
)


@pytest.mark.parametrize(
    "line",
    [
        "Unrecognized option: -Xfoo",
        "Multiple garbage collectors selected",
        "Too small maximum heap",
        "VM option 'UseZGCC' is experimental and must be enabled via -XX:+Unlock.",
        "VM option 'PrintX' is diagnostic and must be enabled via -XX:+Unlock.",
        "Initial heap size set to a larger value than the maximum heap size",
        "Unexpected +/- setting in VM option 'MaxHeapSize=3'",
        "The Java thread stack size specified is too small. Specify at least 136k",
        "Invalid -Xlog option '-Xlog:nosuch', see error log for details.",
    ],
)
def test_what_java_refuses_is_for_its_settings(line: str) -> None:
    """Then the hint is gateway.jvm, and not to look into the log."""
    assert of_java(line)
    assert explaining(f"Error occurred during initialization of VM\n{line}\n{GAVE_UP}") == line


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        ("hello\nbye\n\n", "bye"),
        ("Invalid maximum heap size: -Xmx512mm\nError: Could not", "-Xmx512mm"),
        ("Error occurred during initialization of VM\nToo small maximum heap\n", "Too small"),
        ("# There is insufficient memory for the Java Runtime\n# more", "There is insufficient"),
        (f"VM option 'UseZ' is experimental and must be enabled.\n{GAVE_UP}", "'UseZ' is exper"),
        (f"Words of a Java to come\n{GAVE_UP}", "Words of a Java to come"),
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
