"""`rules:` in stack.yaml: checked where it stands, and what the bridge then reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jsonschema  # type: ignore[import-untyped]
import pytest

from bridge.rules.model import read, stack_schema
from bridge.rules.service import load
from infrastructure.errors import ConfigError
from infrastructure.render import bridge, release
from infrastructure.render.layout import compose_layout
from tests.deploy.conftest import SECRET_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.config import Target

RULE = {
    "id": "credit",
    "match": {"symbol": "SPY", "sec_type": "OPT", "combination": True},
    "take_profit": {"of_credit": 0.5},
    "days_to_expiration": 21,
}


def test_the_bridge_reads_what_stack_yaml_says(make: Callable[..., Target], tmp_path: Path) -> None:
    target = make(rules=[RULE], rules_mode="trade")
    made = release(target, SECRET_VALUES)
    (file,) = (each for each in made.files if each.path == "bridge/rules.json")
    assert (file.mode, file.services) == (0o644, ("bridge",))
    values = bridge.environment(target, compose_layout(target))
    assert values["BRIDGE_RULES_FILE"] == "/etc/gangway/rules.json"
    (tmp_path / "rules.json").write_bytes(file.content)
    assert load(tmp_path / "rules.json") == read({"rules": [RULE], "mode": "trade"})


def test_without_rules_there_is_no_file(make: Callable[..., Target]) -> None:
    target = make()
    assert not [
        each
        for each in release(target, SECRET_VALUES).files
        if each.path.startswith("bridge/rules")
    ]
    assert "BRIDGE_RULES_FILE" not in bridge.environment(target, compose_layout(target))


def test_a_rule_that_is_wrong_is_refused_before_anything_is_touched(
    make: Callable[..., Target],
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(rules=[RULE | {"take_profit": {}}])
    said = "rule credit: takeProfit takes one of percent, amount, price, ofCredit"
    assert said in {problem.message for problem in caught.value.problems()}


def test_editors_are_told_what_a_rule_is() -> None:
    schema = json.loads(json.dumps(stack_schema()))
    jsonschema.validate([RULE], schema)
    for wrong in (RULE | {"take_profit": {"of_credit": -1}}, {"id": "x"}, RULE | {"at": "9"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate([wrong], schema)
