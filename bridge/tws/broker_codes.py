"""The one catalogue of the broker's codes: what each is, and what it does to an order or a request.

Classification, refusals, advice and the tables of docs/bridge-reference.md and docs/orders.md come
from here (`scripts/broker-codes` writes the tables). A code that is not there is a notice from 2100
to 2199, and refuses the request that it names elsewhere; about an order it decides nothing.
Sources: the broker's published list of message codes, and gateways' logs for what that does not
have.
"""
# ruff: noqa: E501 - one row a line, so that it reads as a table

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, NamedTuple

from bridge.tws import errors


class CodeClass(StrEnum):
    """What a code means to the session."""

    FARM = "farm"  # a data farm came or went; the session is whole
    NOTICE = "notice"  # information; the request it names goes on
    UPSTREAM_LOST = "upstream-lost"
    UPSTREAM_RESTORED = "upstream-restored"
    DATA_LOST = "data-lost"  # restored, but every subscription is gone
    CLIENT_ID = "client-id"
    COMPETING = "competing"
    RATE = "rate"
    CONTRACT = "contract"
    PERMISSION = "permission"
    HISTORY = "history"
    READ_ONLY = "read-only"
    ORDER = "order"
    REQUEST = "request"
    CLIENT_SIDE = "client-side"  # made by client libraries, never by the gateway


class Fault(StrEnum):
    """Whose fault it is, so who can do something."""

    REQUEST = "request"
    ACCOUNT = "account"
    MARKET = "market"
    GATEWAY = "gateway"
    BROKER = "broker"
    BRIDGE = "bridge"
    NOBODY = "nobody"


class Effect(StrEnum):
    """What a code does to the order that it names. Only the first three can end one."""

    REFUSES = "not taken"  # ends an order that does not work yet; a change of a working one failed
    ENDS = "not working"  # ends the order, unless it was about a change of it
    CANCELS = "cancelled"
    CHANGE = "as it was"  # a change or a cancel did not go through
    WARNS = "goes on"
    NOTHING = "its status says"  # decides nothing: a status or a list does


class Meaning(NamedTuple):
    """One row: `effect` is None for what never concerns an order, `final` whether it stays so."""

    code: int
    kind: CodeClass
    says: str
    fault: Fault
    final: bool
    effect: Effect | None
    bridge: str
    person: str
    source: str


_C, _F, _E = CodeClass, Fault, Effect
_FINAL, _PASSES = True, False
_LIST, _LOGS = "broker's list", "gateway logs"
# fmt: off
CATALOGUE: Final[dict[int, Meaning]] = {row[0]: Meaning(*row) for row in (
    (100, _C.RATE, "More than 50 messages a second", _F.BRIDGE, _PASSES, None, "halves its pace for 10 s", "Nothing; report it if it repeats", _LIST),
    (101, _C.REQUEST, "No free market-data line", _F.BRIDGE, _FINAL, None, "refuses the line", "Unsubscribe some, or buy lines", _LIST),
    (102, _C.REQUEST, "Request id used twice", _F.BRIDGE, _FINAL, None, "refuses the request", "Report it", _LIST),
    (103, _C.ORDER, "Order id used twice, or lower than one before", _F.BRIDGE, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Another program uses this client id: give the bridge its own", _LIST),
    (104, _C.ORDER, "A filled order cannot be changed", _F.REQUEST, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The order is filled already: nothing is left to change", _LIST),
    (105, _C.ORDER, "The change does not fit the order", _F.REQUEST, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "Change only price, quantity or time in force", _LIST),
    (106, _C.ORDER, "The gateway cannot transmit the order", _F.GATEWAY, _PASSES, _E.NOTHING, "shows it with the order, and waits for its status", "Read the order: its status says what became of it", _LIST),
    (107, _C.ORDER, "A field that the order needs is missing", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give every field that the order type needs", _LIST),
    (109, _C.ORDER, "Price outside the percentage of the gateway's order presets", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Move the price nearer to the market, or widen the gateway's presets", _LIST),
    (110, _C.ORDER, "Price is off the contract's tick", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Use the contract's tick: GET /contracts shows it, roundToTick rounds", _LIST),
    (111, _C.ORDER, "Time in force and order type do not go together", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Choose a time in force that goes with the order type", _LIST),
    (113, _C.ORDER, "MOC and LOC orders need DAY", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "The time in force does not suit this order; use DAY", _LIST),
    (116, _C.ORDER, "The exchange of the order does not exist or is closed for good", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Name another exchange, or SMART", _LIST),
    (117, _C.ORDER, "A block order is for less than 50", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Raise the quantity to 50 or more", _LIST),
    (125, _C.ORDER, "A buy at this place must be at the best ask", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Set the limit price to the best ask, or choose another exchange", _LIST),
    (132, _C.ORDER, "A clearing account is missing", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Name the account", _LIST),
    (133, _C.ORDER, "The gateway could not submit a new order", _F.GATEWAY, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Read brokerText; send the order again if it is still wanted", _LIST),
    (134, _C.ORDER, "The change failed", _F.GATEWAY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The order is as it was; read it", _LIST),
    (135, _C.ORDER, "The order id is not known", _F.NOBODY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The gateway does not know this order any more; read it", _LIST),
    (136, _C.ORDER, "The order cannot be cancelled", _F.NOBODY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The order cannot be cancelled in its state; read it", _LIST),
    (140, _C.ORDER, "The quantity is not a whole number", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give a whole quantity", _LIST),
    (144, _C.ORDER, "The quantity is not what the allocation adds up to", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Make quantity and allocation agree, or name one account", _LIST),
    (161, _C.ORDER, "The order cannot be cancelled in its state", _F.NOBODY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The order is not in a cancellable state; read it", _LIST),
    (162, _C.HISTORY, "The history service refuses", _F.REQUEST, _FINAL, None, "refuses the request; waits if it is pacing", "Check the dates and the data subscription", _LIST),
    (163, _C.ORDER, "Price breaks the percentage constraint of the order presets", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Move the price nearer to the market, or widen the gateway's presets", _LIST),
    (165, _C.NOTICE, "History service notice", _F.NOBODY, _PASSES, None, "records it", "Nothing to do", _LIST),
    (166, _C.HISTORY, "Expired contract has no history", _F.REQUEST, _FINAL, None, "refuses the request", "Ask for a contract that lives", _LIST),
    (200, _C.CONTRACT, "No such contract, or more than one", _F.REQUEST, _FINAL, _E.REFUSES, "refuses the request or the new order", "Look the contract up with GET /contracts", _LIST),
    (201, _C.ORDER, "The broker rejected the order", _F.ACCOUNT, _FINAL, _E.ENDS, "marks the order rejected; a change of it failed", "Read brokerText: margin, permissions, halts", _LIST),
    (202, _C.NOTICE, "The order is cancelled", _F.NOBODY, _FINAL, _E.CANCELS, "marks the order cancelled", "Read brokerText: it gives the reason when nobody asked for the cancel", _LIST),
    (203, _C.ORDER, "Not allowed for this account", _F.ACCOUNT, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Ask for the permission in the Client Portal's settings", _LIST),
    (300, _C.NOTICE, "No such ticker id", _F.NOBODY, _PASSES, None, "records it", "Nothing to do", _LIST),
    (309, _C.REQUEST, "Too many depth requests", _F.BRIDGE, _FINAL, None, "refuses the request", "Give some back", _LIST),
    (320, _C.REQUEST, "The gateway could not read the request", _F.BRIDGE, _FINAL, None, "refuses the request", "Report it", _LIST),
    (321, _C.REQUEST, "The gateway's own check failed", _F.REQUEST, _FINAL, _E.REFUSES, "refuses the request or the new order; says when it is read-only", "Read brokerText; if the API is read-only, set gateway.read_only: false in stack.yaml and deploy", _LIST),
    (322, _C.REQUEST, "The gateway failed on the request", _F.BRIDGE, _FINAL, None, "refuses the request", "Read brokerText", _LIST),
    (325, _C.ORDER, "Discretionary orders do not go with this exchange and order type", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Leave the discretionary amount out, or use another order type", _LIST),
    (326, _C.CLIENT_ID, "The client id is taken", _F.BRIDGE, _PASSES, None, "waits and asks again with the same id", "Close the other program with this client id, or change bridge.client_id in stack.yaml, or the clientId of a stored profile", _LIST),
    (328, _C.ORDER, "A trailing stop is attached to the wrong type of order", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Attach trailing stops to LMT or STP_LMT orders only", _LIST),
    (329, _C.ORDER, "The order type cannot be changed to that", _F.REQUEST, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "Cancel the order and place a new one", _LIST),
    (354, _C.PERMISSION, "No live data for this", _F.ACCOUNT, _FINAL, None, "falls back to delayed data", "Subscribe in the Client Portal", _LIST),
    (355, _C.ORDER, "The size does not fit the market's rule", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give a quantity in the market's lot size", _LIST),
    (366, _C.NOTICE, "That history request has ended already", _F.NOBODY, _PASSES, None, "records it", "Nothing to do", _LIST),
    (382, _C.ORDER, "Price is more ticks away than the order presets allow", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Move the price nearer to the market, or widen the gateway's presets", _LIST),
    (383, _C.ORDER, "Size is above the order presets", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Lower the quantity, or raise the limit in the gateway's presets", _LIST),
    (387, _C.ORDER, "Order type not known to this exchange", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "This exchange does not take this order type; use LMT", _LIST),
    (388, _C.ORDER, "Below the smallest size", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "The size is below the market's minimum", _LIST),
    (391, _C.ORDER, "A time or its zone is not valid", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Mend goodTillDate or goodAfterTime", _LIST),
    (399, _C.NOTICE, "A message about an order", _F.NOBODY, _PASSES, _E.WARNS, "shows it with the order", "Read brokerText: often the order waits until the market opens", _LIST),
    (404, _C.NOTICE, "Shares to borrow are being located", _F.MARKET, _PASSES, _E.WARNS, "shows it with the order", "Wait: the order is held meanwhile", _LIST),
    (420, _C.RATE, "Too many of this request", _F.BRIDGE, _PASSES, None, "waits", "Ask for less", _LIST),
    (434, _C.ORDER, "The size is zero", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give a quantity more than 0", _LIST),
    (435, _C.ORDER, "The account is missing or wrong", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Name the account", _LIST),
    (436, _C.ORDER, "An allocation is needed", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Name the account", _LIST),
    (460, _C.ORDER, "No permission for this product", _F.ACCOUNT, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Ask for the permission in the Client Portal's settings", _LOGS),
    (461, _C.ORDER, "The size does not fit the contract", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Use the contract's size increment", _LOGS),
    (463, _C.ORDER, "The price is not valid", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give the price that the order type needs, on the contract's tick", _LOGS),
    (478, _C.ORDER, "conId and the other contract fields disagree", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "conId and the other contract fields disagree; leave one of them out", _LOGS),
    (481, _C.NOTICE, "The order's size was reduced", _F.BROKER, _PASSES, _E.WARNS, "shows it with the order", "Read the order: its quantity is smaller now", _LOGS),
    (501, _C.CLIENT_SIDE, "Already connected", _F.GATEWAY, _PASSES, None, "never seen", "Nothing to do", _LIST),
    (502, _C.CLIENT_SIDE, "No connection could be made", _F.GATEWAY, _PASSES, None, "keeps trying; /health says why", "Is the gateway up, logged in, its API on?", _LIST),
    (503, _C.CLIENT_SIDE, "The gateway is too old", _F.GATEWAY, _PASSES, None, "keeps trying", "Use a newer gateway.image_tag", _LIST),
    (504, _C.CLIENT_SIDE, "Not connected", _F.GATEWAY, _PASSES, None, "answers 503 at once", "Wait for /ready", _LIST),
    (507, _C.CLIENT_SIDE, "Bad message length; most often a taken client id", _F.GATEWAY, _PASSES, None, "reconnects", "Close the other program", _LIST),
    (1100, _C.UPSTREAM_LOST, "The gateway has lost the broker", _F.BROKER, _PASSES, None, "fails what is pending, waits for 1101 or 1102; asks the broker itself every 60 s", "Wait: the gateway reconnects by itself; check the broker's system status if it lasts", _LIST),
    (1101, _C.DATA_LOST, "Back, but subscriptions are lost", _F.BROKER, _PASSES, None, "subscribes everything again, reconciles", "Nothing: the bridge puts everything in order again", _LIST),
    (1102, _C.UPSTREAM_RESTORED, "Back, subscriptions kept", _F.NOBODY, _PASSES, None, "reconciles", "Nothing: the bridge puts everything in order again", _LIST),
    (1300, _C.NOTICE, "The API port was changed", _F.GATEWAY, _FINAL, None, "reconnects to the configured port", "Set the gateway's port back, or the connection settings to the new one", _LIST),
    (2100, _C.NOTICE, "Account updates went to another client", _F.NOBODY, _PASSES, None, "records it", "Nothing to do", _LIST),
    (2103, _C.FARM, "A market-data farm is broken", _F.BROKER, _PASSES, None, "after 10 s doubts the quotes that fell silent, and asks for them anew", "Wait; it mends itself", _LIST),
    (2104, _C.FARM, "A market-data farm is well", _F.BROKER, _PASSES, None, "records it", "Nothing to do", _LIST),
    (2105, _C.FARM, "A history farm is broken", _F.BROKER, _PASSES, None, "records it", "Wait; it mends itself", _LIST),
    (2106, _C.FARM, "A history farm is well", _F.BROKER, _PASSES, None, "records it", "Nothing to do", _LIST),
    (2107, _C.FARM, "A history farm sleeps until asked", _F.BROKER, _PASSES, None, "records it", "Nothing to do", _LIST),
    (2108, _C.FARM, "A market-data farm sleeps until asked", _F.BROKER, _PASSES, None, "records it", "Nothing to do", _LIST),
    (2109, _C.NOTICE, "outsideRth is ignored for this order", _F.REQUEST, _FINAL, _E.WARNS, "shows it with the order", "Nothing, unless the order was meant for outside the regular hours", _LIST),
    (2110, _C.UPSTREAM_LOST, "The gateway has lost the broker; it mends itself", _F.BROKER, _PASSES, None, "as 1100", "Wait: the gateway reconnects by itself; check the broker's system status if it lasts", _LIST),
    (2119, _C.FARM, "A market-data farm is connecting", _F.BROKER, _PASSES, None, "records it", "Nothing to do", _LOGS),
    (2137, _C.NOTICE, "The order turns a position around", _F.REQUEST, _PASSES, _E.WARNS, "shows it with the order", "Check the quantity against the position", _LIST),
    (2157, _C.FARM, "The contract farm is broken", _F.BROKER, _PASSES, None, "records it", "Wait; it mends itself", _LOGS),
    (2158, _C.FARM, "The contract farm is well", _F.BROKER, _PASSES, None, "records it", "Nothing to do", _LOGS),
    (2161, _C.NOTICE, "The broker caps the price of this order", _F.BROKER, _PASSES, _E.WARNS, "shows it with the order", "Read brokerText; give a limit price to decide it yourself", _LOGS),
    (2172, _C.NOTICE, "IBKR will refuse this version of the gateway from a date on", _F.GATEWAY, _PASSES, None, "says so in /health until a newer gateway connects, and as an alert", "./deploy.py upgrade gateway, before the date in brokerText", _LOGS),
    (2174, _C.NOTICE, "A time was given without a zone", _F.REQUEST, _PASSES, _E.WARNS, "shows it with the order", "Give times with their zone", _LOGS),
    (10018, _C.NOTICE, "A warning about the value of orders", _F.NOBODY, _PASSES, _E.WARNS, "shows it with the order", "Read brokerText; the order's status says how it stands", _LIST),
    (10019, _C.NOTICE, "A warning about the value of trades", _F.NOBODY, _PASSES, _E.WARNS, "shows it with the order", "Read brokerText; the order's status says how it stands", _LIST),
    (10043, _C.ORDER, "A price is missing", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "The order needs a price", _LOGS),
    (10052, _C.ORDER, "Time in force is not valid", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give a time in force that the broker knows", _LOGS),
    (10089, _C.PERMISSION, "Live data needs another subscription", _F.ACCOUNT, _FINAL, None, "falls back to delayed data", "Subscribe in the Client Portal", _LOGS),
    (10090, _C.NOTICE, "A part of the data is not subscribed", _F.NOBODY, _PASSES, None, "goes on with the rest", "Subscribe in the Client Portal", _LIST),
    (10147, _C.ORDER, "The order to cancel is not known", _F.NOBODY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The gateway does not know this order any more: read it", _LOGS),
    (10148, _C.ORDER, "The order cannot be cancelled in its state", _F.NOBODY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "Read the order: it may be filled or cancelled already", _LOGS),
    (10149, _C.ORDER, "The order id is not valid", _F.NOBODY, _FINAL, _E.CHANGE, "the change or cancel failed, the order is as it was", "The gateway does not know this order any more: read it", _LOGS),
    (10167, _C.NOTICE, "Delayed data is shown", _F.NOBODY, _PASSES, None, "tags the values delayed", "Subscribe for live data", _LOGS),
    (10168, _C.PERMISSION, "No data, and delayed data is not on", _F.ACCOUNT, _FINAL, None, "asks for delayed data", "Subscribe in the Client Portal", _LOGS),
    (10182, _C.REQUEST, "Live updates of this failed", _F.BRIDGE, _FINAL, None, "refuses the request", "Retry", _LOGS),
    (10186, _C.PERMISSION, "No data, not even delayed", _F.ACCOUNT, _FINAL, None, "refuses the line", "Subscribe in the Client Portal", _LOGS),
    (10187, _C.HISTORY, "Historical ticks could not be had", _F.BROKER, _PASSES, None, "refuses the request", "Check the data subscription, then ask again", _LOGS),
    (10189, _C.PERMISSION, "Tick-by-tick needs a subscription", _F.ACCOUNT, _FINAL, None, "refuses the line", "Subscribe in the Client Portal", _LOGS),
    (10197, _C.COMPETING, "Another session of this user gets the live data", _F.ACCOUNT, _PASSES, None, "says session-conflict, falls back to delayed data", "Log the other session out", _LOGS),
    (10230, _C.REQUEST, "There are unsaved changes to the advisor's groups", _F.ACCOUNT, _PASSES, None, "refuses the change", "Save or drop the changes in TWS, then ask again", _LOGS),
    (10243, _C.ORDER, "Fractions cannot be ordered through the API", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Fractions of a share cannot be ordered through the API: whole numbers", _LOGS),
    (10244, _C.ORDER, "A cash quantity cannot be used here", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give a quantity instead of cashQuantity", _LOGS),
    (10268, _C.ORDER, "An attribute of the order is not supported any more", _F.BRIDGE, _PASSES, _E.NOTHING, "shows it with the order, and waits for its status", "Read the order: its status says how it stands", _LOGS),
    (10289, _C.ORDER, "A cash quantity is needed here", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give cashQuantity instead of a quantity", _LOGS),
    (10318, _C.ORDER, "Fractions cannot be traded in this contract", _F.REQUEST, _FINAL, _E.REFUSES, "marks a new order rejected; a change of it failed", "Give a whole quantity", _LOGS),
    (10349, _C.NOTICE, "The order presets have changed the time in force", _F.NOBODY, _PASSES, _E.WARNS, "shows it with the order", "Read the order's tif; change the gateway's presets if it is not wanted", _LOGS),
)}
# fmt: on

VERSION_ENDS: Final = 2172
_ENDS: Final = re.compile(
    r"you are running,\s*(?P<version>[0-9A-Za-z.]+),.{0,80}?desupported on (?P<date>[0-9]{8})"
    r"(?:.{0,80}?minimum supported version.{0,40}? (?P<least>[0-9]+\.[0-9]+[a-z]?))?",
    re.DOTALL | re.IGNORECASE,
)


class VersionEnds(NamedTuple):
    """What IBKR announces: from `date` (ISO, empty when not told) `least` is the oldest it takes.

    Versions are in IBKR's words: `1039.1` is 10.39.1.
    """

    version: str
    date: str
    least: str


def version_ends(code: int, text: str) -> VersionEnds | None:
    """The announcement of a gateway version's end in a message of the broker's, if it is one.

    Known by its text, too: it comes with id -1 at each connect, and its number is nowhere promised.
    """
    match = _ENDS.search(text)
    if match is None:
        return VersionEnds("", "", "") if code == VERSION_ENDS else None
    day = match["date"]
    return VersionEnds(match["version"], f"{day[:4]}-{day[4:6]}-{day[6:]}", match["least"] or "")


_WARNINGS: Final = range(2100, 2200)
_READ: Final = "Read brokerText, then the order: its status says how it stands"


def effect_of(code: int) -> Effect:
    """What a code does to an order; one that nobody has listed decides nothing."""
    known = CATALOGUE.get(code)
    if known is not None and known.effect is not None:
        return known.effect
    return Effect.WARNS if code in _WARNINGS else Effect.NOTHING


def order_advice(code: int) -> str:
    """What a person should do about an order that got this code."""
    known = CATALOGUE.get(code)
    return known.person if known is not None and known.effect is not None else _READ


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


_ELSEWHERE: Final = "connected from a different ip address"
"""So the history service refuses while another session of the user has the data."""

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
    if kind is CodeClass.HISTORY and _ELSEWHERE in text.lower():
        return errors.CompetingSessionError(text, broker_code=code, broker_text=text)
    family = _ERRORS.get(kind, errors.RequestRefusedError)
    if about_order and family is errors.RequestRefusedError and not is_notice(code):
        family = errors.OrderRefusedError
    meaning = CATALOGUE.get(code)
    next_step = meaning.person if meaning else None
    return family(text, broker_code=code, broker_text=text, next_step=next_step)
