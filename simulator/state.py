"""What the broker keeps between two runs: accounts, orders, executions, numbers and the time.

Its text is JSON: `{"format", "checksum", "state"}`. `format` follows from the fields of the
records, so a simulator whose records are others knows that a file is not for it.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from zlib import crc32

from simulator.account.ledger import Account
from simulator.account.position import Position
from simulator.contracts.contract import Combination, Contract, Leg
from simulator.trading.combination import legs_of, quote_of
from simulator.trading.conditions import Condition
from simulator.trading.order import Execution, Order, Status
from simulator.trading.terms import Terms

if TYPE_CHECKING:
    from simulator.trading import market
    from simulator.tws.trading import Trading
    from simulator.world import World

RECORDS = (Contract, Combination, Terms, Condition, Order, Execution, Position, Account)
LAYOUT = 1
"""Raised when the meaning of something changes though the fields of the records stay."""
FORMAT = f"{LAYOUT}-" + format(
    crc32(repr([[each.name for each in fields(record)] for record in RECORDS]).encode()), "08x"
)


class UnusableError(ValueError):
    """A state that this simulator cannot go on from; the text says why."""


class Writer:
    """Writes the state of one world; the text of what can no longer change is made once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._done: dict[int, str] = {}
        self._executions: dict[str, str] = {}

    def text(self) -> str:
        """The whole state as it is now."""
        world, trading = self._world, trading_of(self._world)
        book = trading.engine.book
        listed = {order.perm_id for order in book.orders}
        past = {each.order.perm_id: each.order for each in book.executions}
        past = {number: order for number, order in past.items() if number not in listed}
        texts = {order.perm_id: self._order(order) for order in [*past.values(), *book.orders]}
        self._done = {order.perm_id: texts[order.perm_id] for order in book.orders if order.done}
        self._executions = {each.exec_id: self._execution(each) for each in book.executions}
        head = {
            "seed": world.options.seed,
            "accounts": list(world.accounts),
            "time": world.clock.time(),
            "ahead": world.clock.ahead,
            "past": list(past),
            "numbers": trading.engine.identifiers.numbers(),
            "bound": trading.bound,
            "highest": list(book.highest.items()),
            "day": trading.ledger.day,
            "ledger": [_account(each) for each in trading.ledger.accounts.values()],
        }
        rows = ",\n".join(texts.values()), ",\n".join(self._executions.values())
        state = f'{json.dumps(head)[:-1]}, "orders": [{rows[0]}], "executions": [{rows[1]}]}}'
        checksum = crc32(state.encode())
        return f'{{"format": "{FORMAT}", "checksum": {checksum}, "state":\n{state}\n}}\n'

    def _order(self, order: Order) -> str:
        known = self._done.get(order.perm_id)
        if known is not None:
            return known
        return json.dumps(
            _plain(order, "contract", "terms", "parent", "delivers")
            | {
                "contract": _contract(order.contract),
                "terms": _terms(order.terms),
                "parent": order.parent.perm_id if order.parent else None,
                "delivers": _contract(order.delivers) if order.delivers else None,
            }
        )

    def _execution(self, execution: Execution) -> str:
        known = self._executions.get(execution.exec_id)
        if known is not None:
            return known
        legs, leg = legs_of(execution.order.contract), execution.leg
        return json.dumps(
            _plain(execution, "order", "leg")
            | {"order": execution.order.perm_id, "leg": legs.index(leg) if leg else None}
        )


def read(text: str, world: World) -> dict[str, Any]:
    """The state in a file's text, for `restore`.

    Raises:
        UnusableError: it is damaged, or of another simulator, market or login.
    """
    head, mark, rest = text.partition('"state":\n')
    state, end, _ = rest.rpartition("\n}")
    try:
        found = json.loads(f"{head}{mark}null}}")
        form, checksum = str(found["format"]), found["checksum"]
    except (ValueError, LookupError, TypeError):
        raise UnusableError("it is damaged") from None
    if form != FORMAT:
        raise UnusableError("another version of the simulator wrote it")
    if not end or checksum != crc32(state.encode()):
        raise UnusableError("it is damaged")
    kept: dict[str, Any] = json.loads(state)
    if kept["seed"] != world.options.seed:
        raise UnusableError("it belongs to a market with another seed")
    if kept["accounts"] != list(world.accounts):
        raise UnusableError(f"it belongs to the accounts {', '.join(kept['accounts'])}")
    return kept


def restore(kept: dict[str, Any], world: World) -> None:
    """Go on from a state; the world is fresh, and nobody is connected yet.

    Time goes on from where it was, also where it had been wound, and never goes back.

    Raises:
        UnusableError: it names a contract that is not listed here; nothing was changed.
    """
    trading = trading_of(world)
    orders = {row["perm_id"]: _order_of(row) for row in kept["orders"]}
    for row in kept["orders"]:
        orders[row["perm_id"]].parent = orders.get(row["parent"])
    executions = [_execution_of(row, orders) for row in kept["executions"]]
    accounts = {row["name"]: _account_of(row) for row in kept["ledger"]}
    held = [each.contract for account in accounts.values() for each in account.positions.values()]
    traded = [order.contract for order in orders.values() if not order.done]
    for contract in (*held, *traded):
        _check_listed(contract, world, kept["time"])
    world.clock.resume(kept["time"], kept["ahead"])
    book, past = trading.engine.book, set(kept["past"])
    for order in orders.values():
        if order.perm_id not in past:
            book.put_back(order)
    book.executions.extend(executions)
    book.highest.update(dict(kept["highest"]))
    trading.engine.identifiers.go_on(kept["numbers"])
    trading.ledger.accounts.update(accounts)
    trading.ledger.day = kept["day"]
    trading.bound = kept["bound"]
    trading.resume()


def reset(world: World) -> None:
    """Begin with new accounts: what works is cancelled first, so that clients learn of its end."""
    trading = trading_of(world)
    trading.engine.cancel_all(world.clock.time())
    trading.ledger.accounts.update({name: Account(name) for name in world.accounts})


def trading_of(world: World) -> Trading:
    """The part of the world that has the state."""
    if world.trading is None:
        raise UnusableError("this gateway does not trade")
    return world.trading


def _check_listed(contract: market.Contract, world: World, at: float) -> None:
    try:
        quote_of(world.market, contract, at)
    except (LookupError, ValueError, AttributeError):
        text = f"it holds {contract.symbol} {contract.sec_type}, which is not listed here"
        raise UnusableError(text) from None


def _plain(record: Any, *without: str) -> dict[str, Any]:
    """The fields of a record that JSON has."""
    names = (each.name for each in fields(record))
    return {name: getattr(record, name) for name in names if name not in without}


def _contract(contract: market.Contract) -> dict[str, Any]:
    legs = legs_of(contract)
    record = _plain(contract, "legs")
    if legs:
        record["legs"] = [[_contract(leg.contract), leg.ratio, leg.sign] for leg in legs]
    return record


def _contract_of(row: dict[str, Any]) -> Contract:
    if "legs" not in row:
        return Contract(**row)
    legs = tuple(Leg(_contract_of(leg), ratio, sign) for leg, ratio, sign in row["legs"])
    return Combination(**row | {"legs": legs})


def _terms(terms: Terms) -> dict[str, Any]:
    conditions = [
        _plain(each, "contract") | {"contract": _contract(each.contract) if each.contract else None}
        for each in terms.conditions
    ]
    return _plain(terms, "conditions", "sent") | {
        "conditions": conditions,
        "sent": {name: value for name, value in terms.sent.items() if value != ""},
    }


def _terms_of(row: dict[str, Any]) -> Terms:
    conditions = tuple(
        Condition(
            **each | {"contract": _contract_of(each["contract"]) if each["contract"] else None}
        )
        for each in row["conditions"]
    )
    sent = {
        name: [tuple(each) for each in value] if isinstance(value, list) else value
        for name, value in row["sent"].items()
    }
    return Terms(**row | {"conditions": conditions, "sent": sent})


def _order_of(row: dict[str, Any]) -> Order:
    """The order but its parent."""
    return Order(
        **row
        | {
            "contract": _contract_of(row["contract"]),
            "terms": _terms_of(row["terms"]),
            "status": Status(row["status"]),
            "delivers": _contract_of(row["delivers"]) if row["delivers"] else None,
            "parent": None,
        }
    )


def _execution_of(row: dict[str, Any], orders: dict[int, Order]) -> Execution:
    order = orders[row["order"]]
    leg = None if row["leg"] is None else legs_of(order.contract)[row["leg"]]
    return Execution(**row | {"order": order, "leg": leg})


def _account(account: Account) -> dict[str, Any]:
    return _plain(account, "positions") | {
        "positions": [
            _plain(each, "contract") | {"contract": _contract(each.contract)}
            for each in account.positions.values()
        ]
    }


def _account_of(row: dict[str, Any]) -> Account:
    positions = [
        Position(**each | {"contract": _contract_of(each["contract"])}) for each in row["positions"]
    ]
    return Account(**row | {"positions": {each.contract.con_id: each for each in positions}})
