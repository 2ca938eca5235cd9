from pathlib import Path

import pytest

from bridge.orders.rules import RulesError, TradingRules, load


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "trading.json"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    assert load(None) == TradingRules()


def test_a_file_changes_what_it_names_and_null_switches_off(tmp_path: Path) -> None:
    rules = load(_file(tmp_path, '{"max_quantity": 5, "max_notional": null, "live": true}'))
    assert rules == TradingRules(max_quantity=5, max_notional=None, live=True)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "truncated"),
        ('{"max_quantiti": 5}', "max_quantiti"),
        ('{"max_quantity": "5"}', "max_quantity"),
        ('{"max_quantity": 0}', "max_quantity"),
        ('{"time_zone": "Mars/Olympus"}', "Mars/Olympus"),
        ('{"market_hours": "sometimes"}', "market_hours"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(RulesError) as raised:
        load(path)
    assert str(path) in raised.value.detail
    assert place in raised.value.detail


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="No such file"):
        load(tmp_path / "absent.json")


def test_no_restart_guard_is_a_choice(tmp_path: Path) -> None:
    assert load(_file(tmp_path, '{"restart_guard_seconds": 0}')).restart_guard_seconds == 0
