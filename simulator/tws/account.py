"""Requests about accounts: updates, summary, positions, profit and loss."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from simulator.tws import account_messages as messages
from simulator.tws.account_messages import PLAIN, Value, ledger_values, summary
from simulator.tws.session import handles

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.trading.ledger import Account
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

UPDATE_SECONDS = 180.0
"""How often a gateway repeats account values that nothing else brought up."""
PROFIT_SECONDS = 1.0
SUMMARIES = 2
NO_ACCOUNT = (
    "Error validating request.-'bZ' : cause - The account code is required for this operation."
)
WRONG_ACCOUNT = "Error validating request.-'bZ' : cause - Invalid account code '{}'."
TOO_MANY_SUMMARIES = (
    "Error processing request.-'cv' : cause - "
    "Maximum number of account summary requests exceeded; desired={}, maximum={}"
)


def _account(session: Session, request_id: int, name: str) -> Account | None:
    """The account of that name, or the only one; an error and None otherwise."""
    accounts = session.world.trading.ledger.accounts
    if not name and len(accounts) == 1:
        return next(iter(accounts.values()))
    if name not in accounts:
        session.error(request_id, 321, WRONG_ACCOUNT.format(name) if name else NO_ACCOUNT)
        return None
    return accounts[name]


def _follow(
    session: Session,
    kind: str,
    request_id: int,
    update: Callable[[str | None], object],
    seconds: float = UPDATE_SECONDS,
) -> None:
    """Call `update` now and then, and with an account's name when a fill changed it."""
    trading = session.world.trading
    timer = session.world.clock.every(seconds, lambda: update(None))
    watcher: Callable[[str], object] = update
    trading.watchers.append(watcher)

    def end() -> None:
        timer.cancel()
        trading.watchers.remove(watcher)

    session.subscribe(kind, request_id, end)


# account updates


@handles(6)
def request_account_updates(session: Session, fields: Reader) -> None:
    """Every value and position of one account, again whenever they change."""
    fields.skip(1)
    wanted, name = fields.boolean(), fields.text()
    session.unsubscribe("account updates", 0)
    if not wanted:
        return
    account = _account(session, -1, name)
    if account is None:
        return
    _send_updates(session, account)
    session.send(messages.DOWNLOAD_END, 1, account.name)

    def update(changed: str | None) -> None:
        if changed in {None, account.name}:
            _send_updates(session, account, flat=changed is not None)

    _follow(session, "account updates", 0, update)


def _send_updates(session: Session, account: Account, *, flat: bool = False) -> None:
    """Values and positions; with `flat` also those positions that today's fills closed."""
    ledger, at = session.world.trading.ledger, session.world.clock.time()
    head = [Value("AccountCode", account.name, ""), Value("AccountReady", "true", "")]
    values = [*head, *summary(ledger, account, at), *ledger_values(ledger, account, at)]
    messages.send_values(session, account.name, values)
    positions = account.positions.values() if flat else account.open_positions()
    for position in positions:
        messages.send_portfolio(session, ledger, account, position, at)
    messages.send_time(session)


@handles(76)
def request_account_updates_multi(session: Session, fields: Reader) -> None:
    """The values of an account, with its ledger or only that."""
    fields.skip(1)
    request_id, name, model = fields.integer(), fields.text(), fields.text()
    ledger_only = fields.boolean()
    account = _account(session, request_id, name)
    if account is None:
        return
    trading = session.world.trading

    def update(changed: str | None) -> None:
        if changed not in {None, account.name}:
            return
        at = session.world.clock.time()
        values = ledger_values(trading.ledger, account, at)
        if not ledger_only:
            values = [*summary(trading.ledger, account, at), *values]
        for tag, value, currency in values:
            session.send(
                messages.UPDATE_MULTI, 1, request_id, account.name, model, tag, value, currency
            )

    update(None)
    session.send(messages.UPDATE_MULTI_END, 1, request_id)
    _follow(session, "account updates multi", request_id, update)


@handles(77)
def cancel_account_updates_multi(session: Session, fields: Reader) -> None:
    """End account updates."""
    fields.skip(1)
    session.unsubscribe("account updates multi", fields.integer())


# summary


@handles(62)
def request_account_summary(session: Session, fields: Reader) -> None:
    """The wanted tags of every account, again every three minutes and after a fill."""
    fields.skip(1)
    request_id, group, tags = fields.integer(), fields.text(), fields.text()
    running = [key for key in session.subscriptions if key[0] == "account summary"]
    if len(running) >= SUMMARIES and ("account summary", request_id) not in running:
        text = TOO_MANY_SUMMARIES.format(len(running) + 1, SUMMARIES)
        session.error(request_id, 322, text)
        return
    accounts = session.world.trading.ledger.accounts
    if group != "All" and group not in accounts:
        session.error(request_id, 321, WRONG_ACCOUNT.format(group))
        return
    chosen = [each for name, each in accounts.items() if group in {"All", name}]
    update = partial(_send_summary, session, request_id, chosen, tags.split(","))
    update(None)
    session.send(messages.SUMMARY_END, 1, request_id)
    _follow(session, "account summary", request_id, update)


def _send_summary(
    session: Session,
    request_id: int,
    accounts: list[Account],
    tags: list[str],
    changed: str | None,
) -> None:
    ledger, at = session.world.trading.ledger, session.world.clock.time()
    wanted = {tag.strip() for tag in tags}
    ledgers = {tag.partition(":")[2] or PLAIN for tag in wanted if tag.startswith("$LEDGER")}
    for account in accounts:
        if changed not in {None, account.name}:
            continue
        values = [each for each in summary(ledger, account, at) if each.tag in wanted]
        if ledgers:
            values += [
                each
                for each in ledger_values(ledger, account, at)
                if each.currency in ledgers or "ALL" in ledgers
            ]
        for tag, value, currency in values:
            session.send(messages.SUMMARY, 1, request_id, account.name, tag, value, currency)


@handles(63)
def cancel_account_summary(session: Session, fields: Reader) -> None:
    """End a summary."""
    fields.skip(1)
    session.unsubscribe("account summary", fields.integer())


# positions


@handles(61)
def request_positions(session: Session, fields: Reader) -> None:
    """Every position of every account, and each again when it changes."""
    fields.skip(1)
    ledger = session.world.trading.ledger
    for account in ledger.accounts.values():
        for position in account.open_positions():
            messages.send_position(session, account.name, position)
    session.send(messages.POSITION_END, 1)
    shown = {
        (account.name, con_id): (position.quantity, position.average_cost)
        for account in ledger.accounts.values()
        for con_id, position in account.positions.items()
    }

    def update(changed: str | None) -> None:
        for account in ledger.accounts.values():
            for con_id, position in account.positions.items():
                state = (position.quantity, position.average_cost)
                if account.name == changed and shown.get((account.name, con_id)) != state:
                    shown[account.name, con_id] = state
                    messages.send_position(session, account.name, position)

    _follow(session, "positions", 0, update)


@handles(64)
def cancel_positions(session: Session, fields: Reader) -> None:
    """End positions."""
    fields.skip(1)
    session.unsubscribe("positions", 0)


@handles(74)
def request_positions_multi(session: Session, fields: Reader) -> None:
    """The positions of one account."""
    fields.skip(1)
    request_id, name, model = fields.integer(), fields.text(), fields.text()
    account = _account(session, request_id, name)
    if account is None:
        return

    def update(changed: str | None) -> None:
        if changed == account.name:
            for position in account.positions.values():
                messages.send_position_multi(session, request_id, account.name, position, model)

    for position in account.open_positions():
        messages.send_position_multi(session, request_id, account.name, position, model)
    session.send(messages.POSITION_MULTI_END, 1, request_id)
    _follow(session, "positions multi", request_id, update)


@handles(75)
def cancel_positions_multi(session: Session, fields: Reader) -> None:
    """End positions of one account."""
    fields.skip(1)
    session.unsubscribe("positions multi", fields.integer())


# profit and loss


@handles(92)
def request_profit(session: Session, fields: Reader) -> None:
    """The account's profit, once a second."""
    request_id, name, _ = fields.integer(), fields.text(), fields.text()
    account = _account(session, request_id, name)
    if account is None:
        return
    ledger = session.world.trading.ledger

    def update(_: str | None) -> None:
        messages.send_profit(session, request_id, ledger, account)

    update(None)
    _follow(session, "pnl", request_id, update, PROFIT_SECONDS)


@handles(93)
def cancel_profit(session: Session, fields: Reader) -> None:
    """End the account's profit."""
    session.unsubscribe("pnl", fields.integer())


@handles(94)
def request_profit_single(session: Session, fields: Reader) -> None:
    """One position's profit, once a second."""
    request_id, name, _ = fields.integer(), fields.text(), fields.text()
    con_id = fields.integer()
    account = _account(session, request_id, name)
    if account is None:
        return
    ledger = session.world.trading.ledger

    def update(_: str | None) -> None:
        messages.send_profit_single(session, request_id, ledger, account, con_id)

    update(None)
    _follow(session, "pnl single", request_id, update, PROFIT_SECONDS)


@handles(95)
def cancel_profit_single(session: Session, fields: Reader) -> None:
    """End one position's profit."""
    session.unsubscribe("pnl single", fields.integer())
