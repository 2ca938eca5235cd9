from typing import Any

import pytest
from msgspec import structs

from bridge.orders.lifecycle import (
    BrokerError,
    ChangeDropped,
    ChangeSent,
    ChangeUnanswered,
    Executed,
    Happening,
    Missing,
    NotSent,
    Reported,
    Sent,
    Settled,
    StatusReported,
    apply,
)
from bridge.store.orders import OrderRecord, PendingChange, State, Status
from tests.bridge.orders.samples import at, open_order, record, status


def live(*happenings: Happening, **changes: Any) -> OrderRecord:
    present = record(**changes)
    for happening in happenings:
        present = apply(present, happening)
    return present


def said(word: str, filled: float = 0.0) -> StatusReported:
    return StatusReported(at(2), status(word, filled))


def where(present: OrderRecord) -> tuple[State, Status, float]:
    return present.state, present.status, present.filled


SENT = Sent(at(1))
REJECT = BrokerError(at(3), 201, "Order rejected - reason: too large")


def test_the_ordinary_way() -> None:
    steps = [where(present) for present in _steps(SENT, said("PreSubmitted"), said("Filled", 10))]
    assert steps == [
        (State.SENT, Status.PENDING_SUBMIT, 0),
        (State.ACKNOWLEDGED, Status.PRE_SUBMITTED, 0),
        (State.TERMINAL, Status.FILLED, 10),
    ]


def _steps(*happenings: Happening) -> list[OrderRecord]:
    return [live(*happenings[: count + 1]) for count in range(len(happenings))]


def test_an_answer_may_overtake_the_note_that_it_was_sent() -> None:
    present = live(said("Submitted"), SENT)
    assert where(present) == (State.ACKNOWLEDGED, Status.SUBMITTED, 0)
    assert present.sent_at == at(1)


def test_pending_submit_from_the_broker_is_an_acknowledgement() -> None:
    assert live(SENT, said("PendingSubmit")).state is State.ACKNOWLEDGED


def test_nothing_new_leaves_the_same_object() -> None:
    present = live(SENT, said("Submitted"))
    assert apply(present, said("Submitted")) is present


@pytest.mark.parametrize(
    "late", ["Submitted", "PreSubmitted", "PendingCancel", "Cancelled", "Inactive"]
)
def test_filled_is_for_ever(late: str) -> None:
    assert where(live(SENT, said("Filled", 10), said(late))) == (State.TERMINAL, Status.FILLED, 10)


@pytest.mark.parametrize("late", ["Submitted", "PreSubmitted", "PendingSubmit", "PendingCancel"])
def test_a_cancelled_order_does_not_come_back(late: str) -> None:
    present = live(
        SENT, said("Submitted"), said("Cancelled"), said(late), Reported(at(5), open_order(late))
    )
    assert where(present) == (State.TERMINAL, Status.CANCELLED, 0)


def test_a_cancel_that_lost_the_race_shows_the_fill() -> None:
    present = live(SENT, said("Cancelled"), Executed(at(4), 10, 99.5))
    assert where(present) == (State.TERMINAL, Status.FILLED, 10)
    assert present.average_price == 99.5


def test_a_part_fill_stays_on_a_cancelled_order() -> None:
    assert where(live(SENT, said("Submitted", 4), said("Cancelled"))) == (
        State.TERMINAL,
        Status.CANCELLED,
        4,
    )


def test_fills_never_shrink() -> None:
    assert live(SENT, said("Submitted", 6), said("Submitted", 4)).filled == 6


def test_executions_alone_finish_an_order() -> None:
    assert where(live(SENT, Executed(at(3), 4, 99))) == (State.ACKNOWLEDGED, Status.SUBMITTED, 4)
    assert where(live(SENT, Executed(at(3), 10, 99))) == (State.TERMINAL, Status.FILLED, 10)


def test_a_corrected_execution_corrects_the_average_price() -> None:
    filled = live(SENT, Executed(at(3), 10, 99))
    assert apply(filled, Executed(at(4), 10, 98.5)).average_price == 98.5
    part = live(SENT, said("Submitted", 6))
    assert apply(part, Executed(at(4), 4, 98.5)).average_price == part.average_price


def test_a_change_that_is_never_answered_is_given_up() -> None:
    wanted = structs.replace(record().terms, limit_price=99.0)
    change = PendingChange(at=at(2), terms=wanted, notional=5_000.0)
    present = live(SENT, said("Submitted"), ChangeSent(at(2), change))
    given_up = apply(present, ChangeUnanswered(at(9)))
    assert given_up.pending is None
    assert "change" in (given_up.warning or "")
    assert given_up.notional == present.notional  # it may still have been taken
    late = apply(given_up, Reported(at(9), open_order("Submitted", wanted)))
    assert late.terms.limit_price == 99.0
    cancelling = live(SENT, said("Submitted"), ChangeSent(at(2), PendingChange(at=at(2))))
    assert "last cancel" in (apply(cancelling, ChangeUnanswered(at(9))).warning or "")
    quiet = live(SENT, said("Submitted"))
    assert apply(quiet, ChangeUnanswered(at(9))) is quiet, "nothing was asked"


def test_a_cancel_that_the_broker_works_on_is_not_given_up() -> None:
    present = live(SENT, said("Submitted"), ChangeSent(at(2), PendingChange(at=at(2))))
    present = apply(present, said("PendingCancel"))
    assert apply(present, ChangeUnanswered(at(9))) is present


def test_money_is_reserved_by_a_change_and_given_back_when_it_is_not_sent() -> None:
    before = live(SENT, said("Submitted"))
    more = PendingChange(at=at(2), terms=before.terms, notional=before.notional + 500)
    changing = apply(before, ChangeSent(at(2), more))
    assert changing.notional == before.notional + 500
    assert apply(changing, ChangeDropped(at(3), at(2))).notional == before.notional
    assert apply(changing, ChangeDropped(at(3), at(1))) is changing  # of an earlier one
    less = PendingChange(at=at(2), terms=before.terms, notional=before.notional - 100)
    assert apply(before, ChangeSent(at(2), less)).notional == before.notional
    double = PendingChange(at=at(2), terms=before.terms, notional=before.notional * 2)
    assert apply(before, ChangeSent(at(2), double)).notional == before.notional * 2


@pytest.mark.parametrize("answered", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_an_order_that_was_made_smaller_is_filled_with_no_more(
    answered: bool, listed: bool
) -> None:
    """The answer to the change was lost with the connection, and the order filled meanwhile."""
    before = live(SENT, said("Submitted", 2))
    less = structs.replace(before.terms, quantity=6.0)
    changing = apply(before, ChangeSent(at(2), PendingChange(at=at(2), terms=less)))
    if answered:
        changing = apply(changing, ChangeUnanswered(at(3)))
    filled: Happening = StatusReported(at(4), structs.replace(status("Filled", 6), remaining=0.0))
    if listed:  # a completed order comes without its quantity
        terms = structs.replace(less, quantity=0.0, filled_quantity=6.0)
        filled = Reported(at(4), open_order("Filled", terms))
    present = apply(changing, filled)
    assert where(present) == (State.TERMINAL, Status.FILLED, 6)
    assert present.terms.quantity == 6


def test_a_reject_ends_it_with_the_brokers_text() -> None:
    present = live(SENT, REJECT)
    assert where(present) == (State.TERMINAL, Status.REJECTED, 0)
    assert (present.reject_code, present.reject_text) == (201, REJECT.text)


@pytest.mark.parametrize("code", [200, 201, 203, 321, 110])
def test_a_code_that_is_final_for_an_order_ends_one_that_does_not_work_yet(code: int) -> None:
    for before in ((), (said("PendingSubmit"),), (said("Inactive"),)):
        assert live(SENT, *before, BrokerError(at(2), code, "no")).status is Status.REJECTED


@pytest.mark.parametrize("code", [99999, 2174, 10018, 481, 10349, 10268, 106, 135, 10149])
def test_a_code_that_is_not_final_never_ends_an_order(code: int) -> None:
    for before in ((), (said("PendingSubmit"),), (said("Submitted"),)):
        was = live(SENT, *before)
        present = apply(was, BrokerError(at(2), code, "something"))
        assert where(present) == where(was)
        assert present.warning == f"{code}: something"


@pytest.mark.parametrize("code", [200, 203, 321, 110, 382])
def test_what_is_said_of_a_new_order_does_not_end_one_that_works(code: int) -> None:
    assert live(SENT, said("Submitted"), BrokerError(at(4), code, "no")).open


@pytest.mark.parametrize("said_first", [True, False])
def test_the_reason_of_a_cancel_stays_whichever_comes_first(said_first: bool) -> None:
    reason = BrokerError(at(4), 202, "Order Canceled - reason:limit price too far")
    steps = [said("Cancelled"), reason]
    present = live(SENT, said("Submitted"), *(reversed(steps) if said_first else steps))
    assert present.status is Status.CANCELLED
    assert (present.reject_code, present.reject_text) == (202, reason.text)


def test_inactive_before_or_after_its_reject_is_one_rejection() -> None:
    for order in ((said("Inactive"), REJECT), (REJECT, said("Inactive"))):
        present = live(SENT, *order)
        assert where(present) == (State.TERMINAL, Status.REJECTED, 0)
        assert present.reject_code == 201


def test_a_late_duplicate_does_not_revive_a_rejected_order_but_the_brokers_list_does() -> None:
    rejected = live(SENT, said("Submitted"), REJECT)
    assert apply(rejected, said("Submitted")).status is Status.REJECTED
    revived = apply(rejected, Reported(at(9), open_order("Submitted")))
    assert where(revived) == (State.ACKNOWLEDGED, Status.SUBMITTED, 0)
    assert revived.reject_code is None


@pytest.mark.parametrize("code", [399, 404, 2109, 10167])
def test_a_warning_lets_the_order_go_on(code: int) -> None:
    present = live(SENT, said("PreSubmitted"), BrokerError(at(3), code, "waits for the open"))
    assert where(present) == (State.ACKNOWLEDGED, Status.PRE_SUBMITTED, 0)
    assert present.warning == f"{code}: waits for the open"


def test_a_202_is_a_cancel() -> None:
    assert live(SENT, said("Submitted"), BrokerError(at(3), 202, "")).status is Status.CANCELLED


def test_not_found_anywhere_is_unknown_and_the_broker_can_still_clear_it_up() -> None:
    unknown = live(SENT, Missing(at(5)))
    assert where(unknown) == (State.UNKNOWN, Status.UNKNOWN, 0)
    assert unknown.open
    assert apply(unknown, said("Submitted")).state is State.ACKNOWLEDGED
    assert apply(unknown, Executed(at(6), 10, 99)).status is Status.FILLED


def test_a_person_settles_only_what_is_unknown() -> None:
    assert live(SENT, Missing(at(5)), Settled(at(9), Status.CANCELLED)).status is Status.CANCELLED
    assert (
        live(SENT, said("Submitted"), Settled(at(9), Status.CANCELLED)).status is Status.SUBMITTED
    )


def test_what_was_not_sent_is_over_unless_the_broker_knows_better() -> None:
    present = live(NotSent(at(1), "the socket was closed"))
    assert where(present) == (State.TERMINAL, Status.NOT_SENT, 0)
    assert apply(present, said("Submitted")).state is State.ACKNOWLEDGED
    assert live(said("Submitted"), NotSent(at(3), "")).state is State.ACKNOWLEDGED


def _change(limit: float | None) -> ChangeSent:
    terms = None if limit is None else structs.replace(record().terms, limit_price=limit)
    return ChangeSent(at(3), PendingChange(at=at(3), terms=terms))


def test_a_change_is_pending_until_the_broker_shows_it() -> None:
    working = live(SENT, said("Submitted"))
    changing = apply(working, _change(90.0))
    assert changing.terms.limit_price == 100.0
    old = apply(changing, Reported(at(4), open_order("Submitted")))
    assert old.pending is not None
    shown = structs.replace(record().terms, limit_price=90.0, perm_id=900)
    done = apply(old, Reported(at(5), open_order("Submitted", shown)))
    assert (done.terms.limit_price, done.pending) == (90.0, None)


def test_a_refused_change_leaves_the_order_as_it_was() -> None:
    present = live(SENT, said("Submitted"), _change(90.0), REJECT)
    assert where(present) == (State.ACKNOWLEDGED, Status.SUBMITTED, 0)
    assert present.pending is None
    assert "too large" in (present.warning or "")


@pytest.mark.parametrize("code", [161, 10147, 10148, 135])
def test_a_refused_cancel_leaves_the_order_as_it_was(code: int) -> None:
    present = live(SENT, said("Submitted"), _change(None), BrokerError(at(4), code, "cannot"))
    assert where(present) == (State.ACKNOWLEDGED, Status.SUBMITTED, 0)
    assert present.pending is None


@pytest.mark.parametrize("code", [135, 10147])
def test_the_same_codes_leave_an_order_that_nobody_has_taken_to_the_lists(code: int) -> None:
    assert live(SENT, BrokerError(at(4), code, "no such parent")).state is State.SENT


def test_a_change_that_was_never_sent_is_forgotten() -> None:
    assert live(SENT, said("Submitted"), _change(90.0), ChangeDropped(at(4), at(3))).pending is None


def test_a_pending_increase_is_not_called_filled_too_early() -> None:
    more = structs.replace(record().terms, quantity=20.0)
    change = ChangeSent(at(3), PendingChange(at=at(3), terms=more))
    assert live(SENT, said("Submitted"), change, Executed(at(4), 10, 99)).open


def test_a_completed_order_that_was_rejected_says_so() -> None:
    present = live(
        SENT, Reported(at(4), open_order("Inactive", completed_status="Rejected by System"))
    )
    assert where(present) == (State.TERMINAL, Status.REJECTED, 0)


def test_an_unheard_of_word_changes_nothing_but_the_permanent_id() -> None:
    present = live(SENT, said("Pondering"))
    assert where(present) == (State.SENT, Status.PENDING_SUBMIT, 0)
    assert present.perm_id == 900
