"""What the reading routes refuse, beyond what the gateway refuses.

BridgeError
├── InvalidRequestError
│   ├── InvalidFieldError            invalid-request        one field, with its place
│   ├── AmbiguousContractError       ambiguous-contract     several fit; candidates are listed
│   ├── ContractMismatchError        contract-mismatch      conId is not what was named with it
│   └── StaleExpirationError         stale-expiration       gone by the exchange's calendar
├── LinesExhaustedError              market-data-lines      every market-data line is in use
└── NoQuoteError                     no-quote               the line is open, and nothing came
"""

from __future__ import annotations

from typing import Any

from bridge.errors import BridgeError, InvalidRequestError, Kind


class InvalidFieldError(InvalidRequestError):
    """One field is wrong. `field` is its name on the wire."""

    def __init__(
        self, field: str, message: str, *, code: str = "invalid-value", **options: Any
    ) -> None:
        errors = [{"field": field, "message": message, "code": code}]
        super().__init__(f"{field}: {message}", extra={"errors": errors}, **options)
        self.field = field


class AmbiguousContractError(InvalidRequestError):
    """More than one contract fits."""

    code = "ambiguous-contract"
    next_step = "Say which: add exchange, currency or tradingClass, or pass conId"


class ContractMismatchError(InvalidRequestError):
    """The contract of this number is not the one that was named with it.

    `contradictions` are `(field, as asked, as it is)`.
    """

    code = "contract-mismatch"
    next_step = "Drop conId, or the parts that contradict it; GET /contracts shows the contract"

    def __init__(self, con_id: int, contradictions: list[tuple[str, object, object]]) -> None:
        texts = [f"{field} is {found}, not {asked}" for field, asked, found in contradictions]
        errors = [
            {"field": field, "message": f"conId {con_id}: {text}", "code": "contract-mismatch"}
            for (field, _, _), text in zip(contradictions, texts, strict=True)
        ]
        super().__init__(f"conId {con_id}: {'; '.join(texts)}", extra={"errors": errors})
        self.con_id, self.contradictions = con_id, contradictions


class StaleExpirationError(InvalidFieldError):
    """The expiration lies before the exchange's today."""

    code = "stale-expiration"
    next_step = "Take an expiration from GET /options/chain"


class LinesExhaustedError(BridgeError):
    """Every market-data line is held by someone."""

    code = "market-data-lines"
    kind = Kind.LIMITED
    next_step = "Unsubscribe from something, or wait Retry-After seconds"


class NoQuoteError(BridgeError):
    """The broker took the request and sent no value in time."""

    code = "no-quote"
    kind = Kind.TIMEOUT
    next_step = "Retry; if it repeats, the instrument may not be trading now"
