"""Each row of the page names a file that is there, and something in it that can be imported."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.docs.pages import PROJECT

PAGE = (PROJECT / "docs/finding-your-way.md").read_text()
ROWS = re.findall(r"^\| (.+) \| `([\w/]+\.py)` \| `(\w+)` \|$", PAGE, re.MULTILINE)


def test_there_are_features_enough() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(ROWS) >= 25
    assert len({feature for feature, _, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("feature", "file", "symbol"), ROWS, ids=[row[0] for row in ROWS])
def test_a_feature_is_where_the_page_says(feature: str, file: str, symbol: str) -> None:
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    found = getattr(module, symbol)
    assert getattr(found, "__module__", module.__name__) == module.__name__, feature
