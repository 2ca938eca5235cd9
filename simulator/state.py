"""What the broker keeps between two runs, and the file that it is kept in.

The text is JSON: `{"format", "checksum", "state"}`. `format` follows from the fields of the
records, so a simulator whose records are others knows that a file is not for it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from contextlib import suppress
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from zlib import crc32

from simulator.contracts.contract import Combination, Contract, Leg, legs_of
from simulator.trading.ledger import Account, Position
from simulator.trading.order import Execution, Order, Status
from simulator.trading.terms import Condition, Terms

if TYPE_CHECKING:
    from pathlib import Path

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
        world, trading = self._world, self._world.trading
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
    trading = world.trading
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
    trading = world.trading
    trading.engine.cancel_all(world.clock.time())
    trading.ledger.accounts.update({name: Account(name) for name in world.accounts})


def _check_listed(contract: Contract, world: World, at: float) -> None:
    try:
        world.market.quote(contract, at)
    except (LookupError, ValueError, AttributeError):
        text = f"it holds {contract.symbol} {contract.sec_type}, which is not listed here"
        raise UnusableError(text) from None


def _plain(record: Any, *without: str) -> dict[str, Any]:
    """The fields of a record that JSON has."""
    names = (each.name for each in fields(record))
    return {name: getattr(record, name) for name in names if name not in without}


def _contract(contract: Contract) -> dict[str, Any]:
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


ASIDE = ".set-aside"
RESET = ".reset"
"""A file of this name beside it asks for new accounts at the next start."""


class InUseError(Exception):
    """Another simulator keeps its state in the same file; the text says which."""


class StateFile:
    """Keeps a world's state in a file; it is written whole, before anybody is told of a change.

    Against a crash of the machine it is not synced: it is a simulator's.
    """

    def __init__(self, path: Path, world: World) -> None:
        self._path = path
        self._world = world
        self._writer = Writer(world)
        self._lock: int | None = None
        self._failing = False

    def open(self) -> None:
        """Go on from the file if there is one, and keep it from now on.

        A file that cannot be used is set aside beside it, with a line on stderr.

        Raises:
            InUseError: another simulator has it.
            OSError: it cannot be read.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._hold()
        try:
            restore(read(self._path.read_text(encoding="utf-8"), self._world), self._world)
        except FileNotFoundError:
            pass
        except UnusableError as error:
            self._set_aside(str(error))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            self._set_aside("it is damaged")
        mark = self._path.with_name(self._path.name + RESET)
        if mark.exists():
            reset(self._world)
            self._say("new accounts, as asked for; what worked is cancelled")
        self.write()
        mark.unlink(missing_ok=True)

    def write(self) -> None:
        """Replace the file by the state as it is; where that fails the broker goes on without."""
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            partial.touch(0o600)
            partial.write_text(self._writer.text(), encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            if not self._failing:
                self._say(f"the state is not kept in {self._path}: {error.strerror or error}")
            self._failing = True
        else:
            self._failing = False

    def close(self) -> None:
        """Write it for the last time."""
        if self._lock is not None:
            self.write()
            os.close(self._lock)
            self._lock = None

    def _hold(self) -> None:
        lock = os.open(
            self._path.with_name(f".{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise InUseError(f"{self._path} is in use by another simulator") from None
        self._lock = lock

    def _set_aside(self, reason: str) -> None:
        aside = self._path.with_name(self._path.name + ASIDE)
        with suppress(OSError):
            self._path.replace(aside)
        self._say(f"{self._path} is set aside as {aside.name}: {reason}; the account is a new one")

    @staticmethod
    def _say(text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)
