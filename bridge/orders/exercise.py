"""Exercising an option, or letting it lapse: an instruction that is journaled and sent as an order.

    once for a key, never for more than is held, with its own confirmation

An exercise opens a position in the underlying, at the strike: it is held against the limits as an
order for it would be, and no halt lets it pass. To let an option lapse only closes.

The broker carries it out after the close, or at the end of the option; until then it is listed and
can be cancelled like an order. It carries no reference: the broker's order number leads back to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import Meta, structs

from bridge.auditing import Auditor, Caller, Trail
from bridge.model import Order
from bridge.orders.errors import OrderRefusedByRulesError, Violation
from bridge.orders.legs import Leg
from bridge.orders.order_types import INSTRUCTIONS, OPTIONS
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import OrderRequest, Request
from bridge.orders.submit import OrderSubmitter, Placed
from bridge.orders.target import TargetPlacer
from bridge.quantity import plain
from bridge.store.idempotency import KeyRecord

_OPENS: Final = "an exercise opens a position"


class ExerciseRequest(Request, frozen=True, kw_only=True):
    """What to do with options that are held.

    `override` also against what the price of the underlying suggests. Without `confirm` nothing is
    sent: what is exercised cannot be taken back.
    """

    action: Literal["exercise", "lapse"]
    symbol: str
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)]
    confirm: bool = False
    override: bool = False
    con_id: int = 0
    sec_type: Literal["OPT", "FOP"] | None = None
    exchange: str = ""
    currency: str = ""
    expiration: str = ""
    strike: float | None = None
    right: Literal["C", "P"] | None = None
    multiplier: str | int | float = ""
    trading_class: str = ""
    account: str = ""

    @property
    def opens(self) -> str:
        """Why it can never pass a halt; empty: it only closes."""
        return _OPENS if self.action == "exercise" else ""

    def named(self) -> OrderRequest:
        """The option, as an order for it would name it."""
        own = {"action", "confirm", "override"}
        fields = {name: getattr(self, name) for name in self.__struct_fields__ if name not in own}
        if self.sec_type is None and not self.con_id:
            fields["sec_type"] = "OPT"
        return OrderRequest(**fields | {"action": "SELL", "order_type": "MKT"})


@dataclass(kw_only=True, eq=False)
class OptionExerciser:
    """Sends instructions about options."""

    preparer: Preparer
    submitter: OrderSubmitter
    targets: TargetPlacer
    auditor: Auditor

    async def place(self, request: ExerciseRequest, key: str | None, caller: Caller) -> Placed:
        """Sends the instruction, once for a key."""
        async with self.auditor.trail(caller, "option.exercise", request) as trail:
            claim = self.submitter.claim(key, ("exercise", request))
            return await self.submitter.once(
                claim, trail, lambda: self._place(request, claim, trail), opens=request.opens
            )

    async def _place(self, request: ExerciseRequest, claim: KeyRecord, trail: Trail) -> Placed:
        prepared = await self.preparer.prepare(request.named())
        if wrong := _problems(request, prepared):
            raise OrderRefusedByRulesError(wrong)
        if request.opens:
            delivers = await self.preparer.delivered(prepared.details)
            prepared = structs.replace(prepared, delivers=delivers)

        async def sized() -> list[Prepared]:
            return await self._sized(request, prepared)

        return await self.submitter.place_sized(
            claim, sized, trail, prepared.contract, opens=request.opens
        )

    async def _sized(self, request: ExerciseRequest, prepared: Prepared) -> list[Prepared]:
        """The instruction, when what is held and not being sold already covers it."""
        account, contract = prepared.legs[0].order.account, prepared.contract
        free = await self.targets.free_to_close(account, contract.con_id)
        if request.quantity > free:
            text = f"{request.quantity} to {request.action}, and {plain(free)} are held and free"
            violation = Violation("exceeds-position", text, field="quantity", limit=free)
            raise OrderRefusedByRulesError([violation])
        order = Order(
            action="SELL",
            quantity=float(request.quantity),
            order_type=INSTRUCTIONS[request.action],
            tif="GTC",
            account=account,
            override=request.override,
        )
        instruction = structs.replace(
            prepared,
            legs=(Leg(role="single", order=order),),
            closes=not request.opens,
            reduces=False,  # that was of a sale of the option
        )
        return [instruction]


def _problems(request: ExerciseRequest, prepared: Prepared) -> list[Violation]:
    contract, found = prepared.contract, []
    if contract.sec_type not in OPTIONS:
        text = f"{contract.sec_type} is no option"
        found.append(Violation("invalid-field", text, field="secType", value=contract.sec_type))
    if not request.confirm:
        name = contract.local_symbol or contract.symbol
        text = (
            f"to {request.action} {request.quantity} of {name} cannot be taken back once it is done"
        )
        found.append(
            Violation("confirmation-required", f"{text}: send confirm: true", field="confirm")
        )
    return found
