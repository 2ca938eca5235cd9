"""Every broker code that the bridge understands.

Its class, what the bridge does, what a person should do.

Sources: the broker's message-code tables and public gateway logs. docs/bridge.md prints this table.
Codes that are not here are treated by their range: 2100-2199 and 10xxx warnings about data are
notices, the rest refuse the request that they name.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.tws import errors
from bridge.tws.code_table import ROWS, CodeClass


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row of the table."""

    code: int
    kind: CodeClass
    says: str
    bridge: str
    person: str


TABLE: dict[int, Meaning] = {row[0]: Meaning(*row) for row in ROWS}


def classify(code: int) -> CodeClass:
    """The class of a code, known or not."""
    meaning = TABLE.get(code)
    if meaning:
        return meaning.kind
    if 2100 <= code < 2200:
        return CodeClass.NOTICE
    return CodeClass.REQUEST


def is_notice(code: int) -> bool:
    """Whether a request that gets this code goes on."""
    return classify(code) in (CodeClass.NOTICE, CodeClass.FARM)


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
    meaning = TABLE.get(code)
    next_step = meaning.person if meaning else None
    return family(text, broker_code=code, broker_text=text, next_step=next_step)
