"""All requests: the modules that answer them, and those that are always refused or empty."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

from simulator.tws.session import HANDLERS, Handler, Session, handles

if TYPE_CHECKING:
    from simulator.tws.wire import Reader

MODULES = ("contracts", "market_data", "history", "history_ticks", "realtime", "orders", "account")
"""Modules of `simulator.tws` that register handlers."""


def load() -> dict[int, Handler]:
    """Import every module and give the complete register."""
    for name in MODULES:
        importlib.import_module(f"simulator.tws.{name}")
    return HANDLERS


SCANNER_PARAMETERS, DISPLAY_GROUPS, DISPLAY_GROUP = 19, 67, 68
SOFT_DOLLAR_TIERS, FAMILY_CODES, NEWS_PROVIDERS, USER_INFO = 77, 78, 85, 107
SCANNER_XML = (
    '<?xml version="1.0" encoding="UTF-8"?><ScanParameterResponse><InstrumentList/>'
    "<LocationTree/><ScanTypeList/><FilterList/></ScanParameterResponse>"
)


class Refusal(NamedTuple):
    """An error for a request; `place` is where the request's id stands, None for none."""

    code: int
    text: str
    place: int | None = 0


ADVISORS_ONLY = Refusal(321, "FA data operations ignored for non FA customers.", None)
VERIFY = Refusal(321, "Error validating request.-'bZ' : cause - Verification is not enabled", None)
NO_NEWS = Refusal(10276, "News feed is not allowed.")
REFUSALS: dict[int, Refusal] = {
    18: ADVISORS_ONLY,
    19: ADVISORS_ONLY,
    22: Refusal(
        162, "Historical Market Data Service error message:Scanner is not available for login"
    ),
    23: Refusal(365, "No scanner subscription found", 1),
    52: Refusal(10358, "Fundamentals data is not allowed.", 1),
    65: VERIFY,
    66: VERIFY,
    72: VERIFY,
    73: VERIFY,
    84: NO_NEWS,
    86: NO_NEWS,
    100: NO_NEWS,
    102: NO_NEWS,
}
"""Request -> what it is refused with."""
SILENT = (12, 13, 53, 69, 70, 101, 103)
"""Requests that have no answer when there is nothing to report, and cancels of refused ones."""


def _refuses(refusal: Refusal) -> Handler:
    def refuse(session: Session, fields: Reader) -> None:
        request_id = -1
        if refusal.place is not None:
            fields.skip(refusal.place)
            request_id = fields.integer()
        session.error(request_id, refusal.code, refusal.text)

    return refuse


def _accept(session: Session, fields: Reader) -> None:
    """There is nothing to tell."""


for _message, _refusal in REFUSALS.items():
    handles(_message)(_refuses(_refusal))
for _message in SILENT:
    handles(_message)(_accept)


@handles(24)
def request_scanner_parameters(session: Session, fields: Reader) -> None:
    """Send a document without any scan."""
    session.send(SCANNER_PARAMETERS, 1, SCANNER_XML)


@handles(67)
def query_display_groups(session: Session, fields: Reader) -> None:
    """A gateway has no windows, hence no groups."""
    fields.skip(1)
    session.send(DISPLAY_GROUPS, 1, fields.integer(), "")


@handles(68)
def subscribe_to_group_events(session: Session, fields: Reader) -> None:
    """A gateway has no windows, hence nothing selected."""
    fields.skip(1)
    session.send(DISPLAY_GROUP, 1, fields.integer(), "none")


@handles(79)
def request_soft_dollar_tiers(session: Session, fields: Reader) -> None:
    """There are none."""
    session.send(SOFT_DOLLAR_TIERS, fields.integer(), 0)


@handles(80)
def request_family_codes(session: Session, fields: Reader) -> None:
    """Each account, in no family."""
    accounts = [part for account in session.world.accounts for part in (account, "")]
    session.send(FAMILY_CODES, len(session.world.accounts), *accounts)


@handles(85)
def request_news_providers(session: Session, fields: Reader) -> None:
    """There are none."""
    session.send(NEWS_PROVIDERS, 0)


@handles(104)
def request_user_info(session: Session, fields: Reader) -> None:
    """The login belongs to no white-branded broker."""
    session.send(USER_INFO, fields.integer(), "")
