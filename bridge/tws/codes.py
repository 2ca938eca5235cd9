"""How a broker's code is taken: its class, whether a request that gets it goes on, and its error.

The codes are in `bridge.tws.catalogue`. One that is not there is a notice from 2100 to 2199, and
refuses the request that it names elsewhere; about an order it decides nothing.
"""

from __future__ import annotations

from bridge.tws import errors
from bridge.tws.catalogue import CATALOGUE, CodeClass, Effect, effect_of


def classify(code: int) -> CodeClass:
    """The class of a code, known or not."""
    meaning = CATALOGUE.get(code)
    if meaning:
        return meaning.kind
    if 2100 <= code < 2200:
        return CodeClass.NOTICE
    return CodeClass.REQUEST


def is_notice(code: int) -> bool:
    """Whether a request that gets this code goes on."""
    return classify(code) in (CodeClass.NOTICE, CodeClass.FARM)


def refuses_preview(code: int) -> bool:
    """Whether the question what an order would do has no answer any more."""
    known = CATALOGUE.get(code)
    if known is None or is_notice(code):
        return False
    return known.effect is None or effect_of(code) in (Effect.REFUSES, Effect.ENDS, Effect.CANCELS)


_ERRORS: dict[CodeClass, type[errors.RequestRefusedError]] = {
    CodeClass.CONTRACT: errors.UnknownContractError,
    CodeClass.PERMISSION: errors.NoMarketDataError,
    CodeClass.COMPETING: errors.CompetingSessionError,
    CodeClass.HISTORY: errors.NoHistoryError,
    CodeClass.READ_ONLY: errors.ReadOnlyGatewayError,
    CodeClass.ORDER: errors.OrderRefusedError,
}


def error_for(code: int, text: str, *, about_order: bool = False) -> errors.TwsError:
    """The typed error of a broker message that named a request or an order."""
    kind = classify(code)
    if "pacing violation" in text.lower() or kind is CodeClass.RATE:
        return errors.PacingLimitedError(text, broker_code=code, broker_text=text, retry_after=15.0)
    if code == 321 and "read-only" in text.lower():
        return errors.ReadOnlyGatewayError(text, broker_code=code, broker_text=text)
    family = _ERRORS.get(kind, errors.RequestRefusedError)
    if about_order and family is errors.RequestRefusedError and not is_notice(code):
        family = errors.OrderRefusedError
    meaning = CATALOGUE.get(code)
    next_step = meaning.person if meaning else None
    return family(text, broker_code=code, broker_text=text, next_step=next_step)
