import pytest

from bridge.store.orders import Status, from_broker
from bridge.tws.broker_codes import CATALOGUE, Effect, effect_of, order_advice


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("ApiPending", Status.PENDING_SUBMIT),
        ("PendingSubmit", Status.PENDING_SUBMIT),
        ("PreSubmitted", Status.PRE_SUBMITTED),
        ("Submitted", Status.SUBMITTED),
        ("PendingCancel", Status.PENDING_CANCEL),
        ("ApiCancelled", Status.CANCELLED),
        ("Cancelled", Status.CANCELLED),
        ("Filled", Status.FILLED),
        ("Inactive", Status.INACTIVE),
        ("Nonsense", None),
    ],
)
def test_the_brokers_words(word: str, meant: Status | None) -> None:
    assert from_broker(word) is meant


def test_every_listed_code_tells_a_person_what_to_do() -> None:
    assert all(order_advice(code) for code in (*CATALOGUE, 31337))


@pytest.mark.parametrize(
    ("code", "effect"),
    [
        (201, Effect.ENDS),
        (203, Effect.REFUSES),
        (321, Effect.REFUSES),
        (200, Effect.REFUSES),
        (399, Effect.WARNS),
        (202, Effect.CANCELS),
        (10148, Effect.CHANGE),
        (2161, Effect.WARNS),
        (2174, Effect.WARNS),
        (481, Effect.WARNS),
        (10018, Effect.WARNS),
        (10349, Effect.WARNS),
        (31337, Effect.NOTHING),
    ],
)
def test_effects(code: int, effect: Effect) -> None:
    assert effect_of(code) is effect
