"""`rules try`: rules on given prices, without a gateway, posted to a hook that is as Discord's."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from infrastructure.cli import main
from tests.discord_hook import DiscordHook, discord_hook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RULES = """
rules:
  - id: half-the-credit
    match: {symbol: SPY, combination: true}
    take_profit: {of_credit: 0.5}
  - id: trailing-stocks
    mode: trade
    match: {sec_type: STK, side: long}
    trailing: {percent: 5, armed_at: 10}
"""
POSITIONS = """
positions:
  - {symbol: AAPL, quantity: 100, average_cost: 180}
  - {name: short-put, symbol: SPY, sec_type: OPT, right: P, strike: 500, expiration: 20260717,
     quantity: -2, average_cost: 250, combination: spread}
  - {name: long-put, symbol: SPY, sec_type: OPT, right: P, strike: 490, expiration: 20260717,
     quantity: 2, average_cost: 100, combination: spread}
"""
PRICES = """
prices:
  - {at: 2026-06-01T14:30:00Z, AAPL: [189.9, 190.1], short-put: [2.4, 2.5], long-put: 1}
  - {at: 2026-06-01T15:30:00Z, AAPL: [203.9, 204.1], short-put: [1.4, 1.5], long-put: 0.7}
  - {at: 2026-06-01T16:30:00Z, AAPL: [193.0, 193.2], short-put: [1.2, 1.3], long-put: 0.6}
"""
CSV = """at,name,bid,ask
2026-06-01T14:30:00Z,AAPL,203.9,204.1
2026-06-01T15:30:00Z,AAPL,193.0,193.2
"""
Run = tuple[int, str, str]


@pytest.fixture
def gangway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "sandbox"))

    def run(*words: str) -> Run:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        return (int(ended.value.code or 0), *capfd.readouterr())

    return run


def test_what_rules_would_do_with_given_prices(gangway: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RULES + POSITIONS + PRICES)
    code, out, _ = gangway("rules", "try", "mine.yaml")
    assert code == 0
    assert out.splitlines() == [
        "2026-06-01 15:30:00Z half-the-credit would (simulate) BUY 2 SPY (-1 short-put,"
        " +1 long-put) at 0.75: takeProfit: 150 has reached 150, profit +150.00",
        "2026-06-01 16:30:00Z trailing-stocks would SELL 100 AAPL at 193.1: trailing: 193.1 has"
        " reached 193.8, profit +1310.00",
    ]


def test_prices_of_another_file_as_json(gangway: Callable[..., Run], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RULES + POSITIONS)
    (tmp_path / "monday.csv").write_text(CSV)
    code, out, _ = gangway("rules", "try", "mine.yaml", "--prices", "monday.csv", "--json")
    found = json.loads(out)
    assert (code, found["moments"], found["posted"]) == (0, 2, [])
    (happening,) = found["happenings"]
    assert (happening["rule"], happening["mode"], happening["limit"]) == (
        "trailing-stocks", "trade", 193.1,
    )  # fmt: skip
    assert {each["rule"]: each["triggers"][0]["unknown"] for each in found["standing"]} == {
        "half-the-credit": "no quote"
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULES + POSITIONS, "error: mine.yaml has no prices"),
        (RULES + PRICES, "error: mine.yaml has no positions"),
        (POSITIONS + PRICES, "error: mine.yaml has no rules"),
        (RULES.replace("percent: 5", "percent: five") + POSITIONS + PRICES,
         "error: mine.yaml: rule trailing-stocks: trailing.percent: Expected"),
        (RULES + POSITIONS + "prices: [{at: soon, AAPL: 1}]", "'soon' is no time"),
        (RULES + POSITIONS + "prices: [{at: 2026-06-01, AAPL: x}]", "give [BID, ASK]"),
        (RULES + "positions: [{symbol: AAPL}]\n" + PRICES, "missing required field `quantity`"),
        ("rules: [", "error: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(
    gangway: Callable[..., Run], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    code, out, error = gangway("rules", "try", "mine.yaml")
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert said in error
    assert "Traceback" not in error


@pytest.fixture
def hook() -> Iterator[DiscordHook]:
    with discord_hook() as made:
        yield made


def test_what_would_be_done_is_posted(
    gangway: Callable[..., Run], tmp_path: Path, hook: DiscordHook
) -> None:
    (tmp_path / "address").touch(mode=0o600)
    (tmp_path / "address").write_text(hook.address + "\n")
    (tmp_path / "stack.yaml").write_text(
        "targets:\n  paper:\n    runtime: sandbox\n    host: local\n    profile: standard\n"
        "    gateway: {username: u, mode: paper}\n    alerts: {urls: [{file: address}]}\n"
    )
    (tmp_path / "mine.yaml").write_text(RULES + POSITIONS + PRICES)
    code, out, error = gangway("rules", "try", "mine.yaml")
    assert (code, "posted to json" in error, "token" in out + error) == (0, True, False)
    (message,) = hook.received
    assert "trailing-stocks would SELL 100 AAPL at 193.1" in message
    assert gangway("rules", "try", "mine.yaml", "--no-post")[0] == 0
    assert len(hook.received) == 1
