"""The two steps without processes: tokens, their time, and what a late repetition may do."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.orders.order_ids import key_digest, order_ref
from infrastructure.mcp.bridge import Answer, BridgeClient, NoAnswerError
from infrastructure.mcp.placing import KEPT_SECONDS, Placing, Previews, Refused, sentence

ORDER = {"symbol": "AAPL", "action": "BUY", "quantity": 3.0, "orderType": "MKT", "tif": "DAY"}


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Scripted(BridgeClient):
    """Answers in turn, and keeps what was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sent: list[dict[str, str]] = []
        self.known: list[dict[str, Any]] = []
        self.placing: list[Answer | Exception] = []
        self.mode = "paper"

    def close(self) -> None: ...

    def request(self, method: str, path: str, **asked: Any) -> Answer:
        if path == "/order/preview":
            return Answer(200, {"accepted": True, "account": "DU1", **asked["body"]})
        if path == "/health":
            return Answer(200, {"tradingMode": self.mode})
        if path == "/order":
            self.sent.append(asked["headers"])
            answer = self.placing.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if path == "/orders":
            return Answer(200, {"orders": self.known, "nextCursor": None})
        return Answer(200, {"orderId": path.rpartition("/")[2], "status": "Filled"})


class Made:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.file = folder / "mcp" / "previews.sqlite3"
        self.bridge = Scripted(self.clock)
        self.restart()

    def restart(self) -> None:
        """Another server with the same file."""
        self.previews = Previews(self.file, self.clock)
        self.placing = Placing(self.bridge, self.previews)

    def preview(self) -> tuple[str, str]:
        found = self.placing.preview(dict(ORDER))
        return found["token"], found["order"]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


PLACED = Answer(201, {"orderId": "o1", "status": "Submitted"})
PENDING = Answer(504, {"code": "order-pending", "detail": "no answer yet"})


def test_every_attempt_carries_the_same_key_also_of_another_server(made: Made) -> None:
    token, said = made.preview()
    made.bridge.placing = [NoAnswerError("gone"), PENDING, PLACED]
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            made.placing.place(token, said)
        made.restart()
    assert made.placing.place(token, said)["orderId"] == "o1"
    assert {each["Idempotency-Key"] for each in made.bridge.sent} == {f"mcp-{token}"}
    made.restart()
    assert made.placing.place(token, said)["orderId"] == "o1"
    assert len(made.bridge.sent) == 3  # what has become an order is read, never sent


@pytest.mark.parametrize(("seconds", "sent"), [(119.0, 1), (121.0, 0), (-5.0, 0)])
def test_a_preview_is_good_for_two_minutes(made: Made, seconds: float, sent: int) -> None:
    token, said = made.preview()
    made.clock.seconds += seconds
    made.bridge.placing = [PLACED]
    if sent:
        made.placing.place(token, said)
    else:
        with pytest.raises(Refused, match="older than 120 seconds"):
            made.placing.place(token, said)
    assert len(made.bridge.sent) == sent


def test_a_late_repetition_looks_and_never_sends(made: Made) -> None:
    token, said = made.preview()
    made.bridge.placing = [NoAnswerError("gone")]
    with pytest.raises(NoAnswerError):
        made.placing.place(token, said)
    made.clock.seconds += 3600
    reference = order_ref(key_digest(f"mcp-{token}"), 0, 0)
    stop = {"orderId": "o8", "orderRef": reference[:-1] + "1", "role": "stop-loss"}
    other = {"orderId": "o9", "orderRef": order_ref(key_digest("x"), 0, 0), "role": "single"}
    made.bridge.known = [other, stop]
    with pytest.raises(Refused, match="was not placed"):
        made.placing.place(token, said)
    made.bridge.known = [other, stop, {"orderId": "o7", "orderRef": reference, "role": "entry"}]
    assert made.placing.place(token, said)["orderId"] == "o7"
    assert len(made.bridge.sent) == 1


def test_what_may_still_arrive_is_not_said_to_be_lost(made: Made) -> None:
    token, said = made.preview()
    made.clock.seconds += 110
    made.bridge.placing = [NoAnswerError("gone")]
    with pytest.raises(NoAnswerError):
        made.placing.place(token, said)
    made.clock.seconds += 30  # too old to send, too young to be given up
    with pytest.raises(NoAnswerError, match="not known yet"):
        made.placing.place(token, said)
    made.clock.seconds += 40
    with pytest.raises(Refused, match="was not placed"):
        made.placing.place(token, said)


def test_a_refusal_leaves_the_token_for_its_time(made: Made) -> None:
    token, said = made.preview()
    halted = Answer(423, {"code": "trading-halted", "detail": "halted", "nextStep": "resume"})
    made.bridge.placing = [halted, PLACED]
    with pytest.raises(Refused) as refused:
        made.placing.place(token, said)
    assert (refused.value.code, refused.value.hint) == ("trading-halted", "resume")
    assert made.placing.place(token, said)["orderId"] == "o1"


@pytest.mark.parametrize(
    ("mode", "account", "asked"),
    [("paper", "DU1", False), ("live", "DU1", True), ("paper", "U1", True), (None, "DU1", True)],
)
def test_whatever_is_not_certainly_paper_is_live(
    made: Made, mode: str, account: str, asked: bool
) -> None:
    made.bridge.mode = mode
    token = made.previews.keep(ORDER, "an order", account)
    assert made.placing.needs_person(made.placing.required(token, "an order")) is asked


def test_the_file_is_its_owners_alone_and_does_not_grow_for_ever(made: Made) -> None:
    made.preview()
    assert stat.S_IMODE(made.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.file.parent.stat().st_mode) == 0o700
    made.clock.seconds += KEPT_SECONDS + 1
    made.preview()
    with sqlite3.connect(made.file) as connection:
        assert connection.execute("SELECT count(*) FROM previews").fetchone() == (1,)
    connection.close()


@given(
    st.dictionaries(
        st.sampled_from(["limitPrice", "tif", "outsideRth", "strike", "exchange", "trailAmount"]),
        st.one_of(st.floats(0.01, 1e6), st.sampled_from(["GTC", "SMART"]), st.booleans()),
    )
)
def test_the_sentence_names_all_that_an_order_asks_for(more: dict[str, Any]) -> None:
    body = {**ORDER, **more}
    said = sentence(dict(body), "DU1")
    for value in body.values():
        shown = str(value).lower() if isinstance(value, bool) else value
        shown = f"{shown:.12g}" if isinstance(shown, float) else str(shown)
        assert shown in said


def test_two_orders_that_differ_have_two_sentences() -> None:
    bracket = {"bracket": {"takeProfit": {"limitPrice": 2.0}, "stopLoss": {"stopPrice": 1.0}}}
    said = sentence({**ORDER, **bracket}, "DU1")
    assert said == (
        "BUY 3 AAPL MKT bracket={takeProfit={limitPrice=2} stopLoss={stopPrice=1}} tif=DAY"
        " account=DU1"
    )
