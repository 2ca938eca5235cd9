"""What a person is told of orders, of a halt and of the journal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bridge.orders.halt import JOURNAL, Halt
from bridge.orders.health import (
    _as_need,
    _halted,
    _journal,
    _quarantine_need,
    _read_only,
    _unanswered,
    _unknown_need,
)
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import READ_ONLY_ACTION
from tests.bridge.orders.samples import NOON

TROUBLE = SimpleNamespace(what="The disk is full", next_step="Make room")


def halt(by: str = "person", *, survives: bool = True) -> Any:
    held = Halt(since=NOON, by=by, reason="it was put back", not_accepted=by == JOURNAL)
    return SimpleNamespace(halt=held, survives_restart=survives)


def condition(trouble: Any = None, quarantined: int = 0) -> Any:
    return SimpleNamespace(trouble=trouble, quarantined=quarantined)


def test_orders_of_unknown_fate() -> None:
    assert _unknown_need(0) is None
    one, two = _unknown_need(1), _unknown_need(2)
    assert one is not None
    assert two is not None
    assert one.message == "1 order needs you: it may or may not have reached the broker"
    assert two.message == "2 orders need you: they may or may not have reached the broker"
    assert (one.code, "POST /order/{id}/settle" in one.next_step) == ("orders-unknown", True)


def test_messages_that_could_not_be_kept() -> None:
    assert _quarantine_need(condition()) is None
    need = _quarantine_need(condition(quarantined=3))
    assert need is not None
    assert need.message == "3 messages of the broker's could not be kept"


def test_a_halt() -> None:
    none: Any = SimpleNamespace(halt=None, survives_restart=True)
    assert _halted(none, condition(TROUBLE)) is None
    by_person = _halted(halt(), condition())
    assert by_person is not None
    assert by_person.state is ConnectionState.HALTED
    assert by_person.next_action.startswith("Trading is halted on purpose; DELETE /trading/halt")
    by_journal = _halted(halt(JOURNAL), condition())
    assert by_journal is not None
    assert by_journal.next_action.startswith("Trading is halted, because it was put back. ")
    lost = _halted(halt(survives=False), condition(TROUBLE))
    assert lost is not None
    assert lost.next_action.startswith(
        "The disk is full: Make room. Do not restart the bridge: it would forget that trading is"
    )


def test_a_journal_in_trouble() -> None:
    free: Any = SimpleNamespace(halt=None, survives_restart=True)
    assert _journal(condition(), halt()) is None
    overlay = _journal(condition(TROUBLE), free)
    assert overlay is not None
    assert overlay.state is ConnectionState.STALLED
    assert overlay.next_action == "The disk is full: Make room"
    need = _as_need("journal", "The journal needs you", overlay)
    assert need is not None
    assert (need.code, need.message) == ("journal", "The journal needs you")
    assert need.next_step == "The disk is full: Make room"
    assert _as_need("journal", "x", None) is None
    halted = _journal(condition(TROUBLE), halt(survives=False))
    assert halted is not None
    assert halted.state is ConnectionState.STALLED, "a halt does not hide it from a deploy"
    assert "it would forget that trading is" in halted.next_action


@pytest.mark.parametrize(
    ("refuses", "reads", "expected", "told"),
    [
        (True, False, False, True),
        (False, False, False, False),
        (True, True, False, False),
        (True, False, True, False),
        (False, True, True, False),
    ],
)
def test_a_gateway_that_refuses_orders(
    refuses: bool, reads: bool, expected: bool, told: bool
) -> None:
    reconciler: Any = SimpleNamespace(gateway_read_only=refuses)
    rules: Any = SimpleNamespace(read_only=reads, gateway_read_only=expected)
    overlay = _read_only(reconciler, rules)
    assert (overlay is not None) is told
    if overlay is not None:
        assert overlay.state is ConnectionState.READ_ONLY
        assert overlay.next_action == READ_ONLY_ACTION


def test_what_the_broker_does_not_answer() -> None:
    silent: Any = SimpleNamespace(silent={})
    assert _unanswered(silent) is None
    silent.silent = {"open orders": NOON, "executions": NOON}
    overlay = _unanswered(silent)
    assert overlay is not None
    assert overlay.state is ConnectionState.READY
    assert overlay.next_action.startswith(
        "open orders got no answer since 17:00:00 UTC, executions got no answer since 17:00:00 UTC:"
    )
