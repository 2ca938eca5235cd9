"""Puts the parts of orders together and gives them their place in the life of the bridge."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

from bridge.account.service import AccountService
from bridge.auditing import Auditor
from bridge.clock import settle
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders import health
from bridge.orders.cancel import OrderCanceller
from bridge.orders.cancel_before import CancelBefore
from bridge.orders.close import PositionCloser
from bridge.orders.combination_quote import CombinationQuotes
from bridge.orders.executions import ExecutionService, ExecutionView, execution_view
from bridge.orders.exercise import OptionExerciser
from bridge.orders.flex_import import SERVICE, FlexImport, FlexService, fetch
from bridge.orders.halt import HaltSwitch, TradingHalt
from bridge.orders.health import OrderAlerts, described
from bridge.orders.held_and_working import Standings
from bridge.orders.journal import OrderJournal
from bridge.orders.journal_service import JournalService
from bridge.orders.modify import OrderModifier
from bridge.orders.order_ids import NumberSequence, OrderNumbers
from bridge.orders.other_clients import OtherClientsOrders
from bridge.orders.prepare import Preparer
from bridge.orders.reconcile import Reconciler
from bridge.orders.rules import TradingRules, load
from bridge.orders.sender import OrderSender
from bridge.orders.service import OrderService
from bridge.orders.silence import SILENCE_PATIENCE_SECONDS, SilenceWatch
from bridge.orders.submit import OrderSubmitter
from bridge.orders.target import TargetPlacer
from bridge.orders.views import OrderView, order_view
from bridge.rules.opening_history import OpeningHistory
from bridge.services import Services
from bridge.settings.profile import Profile
from bridge.settings.service import SettingsService
from bridge.store import Database
from bridge.store.probe import Probe
from bridge.store.retention import Retention
from bridge.store.urgent import Urgent
from bridge.stream.service import StreamService
from bridge.stream.subscriber import EXECUTIONS, ORDERS, Topic
from bridge.tws.session import ClientIds, TwsSession


def install(services: Services) -> None:
    """Needs the journal, the contracts and the quotes."""
    rules = load(services.environment.trading_file)
    _keep_journal(services)
    _send(services, rules)
    _place_and_change(services, rules)
    _hold_positions(services)
    _ask(services)
    _watch(services, rules)
    _reconcile(services, rules)
    _start_and_stop(services)
    _publish(services, services[OrderJournal])
    _follow_settings(services, services[Preparer])


def _keep_journal(services: Services) -> None:
    """What is written down of orders, and whether it can be."""
    database, clock, condition = services[Database], services.clock, services.journal
    condition.identity = database.identity
    journal = OrderJournal(database, services.gateway, clock, condition)
    services.provide(OrderJournal, journal)
    services.provide(Probe, Probe(database, condition, services[Urgent]))
    days = timedelta(days=services.environment.journal_keep_days)
    session = services.get(TwsSession)
    right = (lambda: True) if session is None else session.context.clock_is_known_right
    services.provide(Retention, Retention(database, days, right))
    service = JournalService(database, condition, services[Auditor], clock)
    services.provide(JournalService, service)
    services.on_last_words(journal.give_up)
    if session is not None:
        session.context.brakes.append(journal.behind)


def _send(services: Services, rules: TradingRules) -> None:
    """The way of every order to the broker, and what stops it: the halt and the cancel."""
    database, gateway, clock = services[Database], services.gateway, services.clock
    accounts = services.get(AccountService)
    preparer = services.provide(
        Preparer,
        Preparer(
            gateway,
            services[ContractService],
            services[QuoteService],
            clock,
            rules,
            services.environment.trading_mode,
            services.environment.restarts,
            accounts,
        ),
    )
    halt = services.provide(HaltSwitch, HaltSwitch(database, clock, services[Urgent]))
    canceller = services.provide(
        OrderCanceller,
        OrderCanceller(
            gateway=gateway,
            journal=services[OrderJournal],
            auditor=services[Auditor],
            clock=clock,
            answer_seconds=rules.answer_within_seconds,
            late=accounts.late if accounts is not None else tuple,
        ),
    )
    numbers = services.provide(OrderNumbers, OrderNumbers(gateway))
    sender = OrderSender(
        database=database,
        gateway=gateway,
        preparer=preparer,
        journal=services[OrderJournal],
        canceller=canceller,
        halt=halt,
        auditor=services[Auditor],
        clock=clock,
        numbers=numbers,
    )
    services.provide(OrderSender, sender)
    services.provide(TradingHalt, TradingHalt(halt, canceller, services[Auditor]))


def _place_and_change(services: Services, rules: TradingRules) -> None:
    """Single orders, the bridge's own and those of other clients."""
    database, gateway, clock = services[Database], services.gateway, services.clock
    journal, auditor = services[OrderJournal], services[Auditor]
    session = services.get(TwsSession)
    submitter = OrderSubmitter(
        database=database,
        gateway=gateway,
        preparer=services[Preparer],
        journal=journal,
        sender=services[OrderSender],
        canceller=services[OrderCanceller],
        halt=services[HaltSwitch],
        auditor=auditor,
        clock=clock,
    )
    modifier = OrderModifier(
        gateway=gateway,
        journal=journal,
        sender=services[OrderSender],
        preparer=services[Preparer],
        halt=services[HaltSwitch],
        auditor=auditor,
        clock=clock,
    )
    other_clients = OtherClientsOrders(
        gateway=gateway,
        journal=journal,
        auditor=auditor,
        clock=clock,
        answer_seconds=rules.answer_within_seconds,
        borrow=ClientIds(session).borrowed if session else None,
    )
    service = OrderService(
        database=database,
        journal=journal,
        submitter=submitter,
        sender=services[OrderSender],
        other_clients=other_clients,
        auditor=auditor,
        clock=clock,
    )
    services.provide(OrderSubmitter, submitter)
    services.provide(OrderModifier, modifier)
    services.provide(OtherClientsOrders, other_clients)
    services.provide(OrderService, service)


def _hold_positions(services: Services) -> None:
    """Orders that bring what is held somewhere: to a size, to nothing, to its exercise."""
    database, gateway, journal = services[Database], services.gateway, services[OrderJournal]
    preparer, submitter, auditor = services[Preparer], services[OrderSubmitter], services[Auditor]
    standings = Standings(
        database=database,
        gateway=gateway,
        journal=journal,
        other_clients=services[OtherClientsOrders],
        accounts=services.get(AccountService),
    )
    cancel_before = CancelBefore(
        database=database,
        preparer=preparer,
        journal=journal,
        submitter=submitter,
        canceller=services[OrderCanceller],
    )
    targets = TargetPlacer(
        preparer=preparer,
        submitter=submitter,
        cancel_before=cancel_before,
        standings=standings,
        auditor=auditor,
    )
    history = services.provide(OpeningHistory, OpeningHistory(database, gateway, journal))
    closer = PositionCloser(
        database=database,
        gateway=gateway,
        preparer=preparer,
        submitter=submitter,
        targets=targets,
        cancel_before=cancel_before,
        standings=standings,
        history=history,
        auditor=auditor,
        clock=services.clock,
    )
    exerciser = OptionExerciser(
        preparer=preparer, submitter=submitter, targets=targets, auditor=auditor
    )
    services.provide(Standings, standings)
    services.provide(TargetPlacer, targets)
    services.provide(PositionCloser, closer)
    services.provide(OptionExerciser, exerciser)


def _ask(services: Services) -> None:
    """What changes nothing at the broker: quotes of combinations, executions, their import."""
    database, clock = services[Database], services.clock
    combinations = CombinationQuotes(
        gateway=services.gateway,
        contracts=services[ContractService],
        quotes=services[QuoteService],
        clock=clock,
    )
    services.provide(CombinationQuotes, combinations)
    services.provide(ExecutionService, ExecutionService(database))
    keep = timedelta(days=services.environment.journal_keep_days)
    flex = FlexImport(_flex_service(services), database, services[OrderJournal], clock, keep)
    services.provide(FlexImport, flex)


def _watch(services: Services, rules: TradingRules) -> None:
    """Who has to know of an order, and what happens when its client falls silent."""
    database, journal = services[Database], services[OrderJournal]
    session, canceller = services.get(TwsSession), services[OrderCanceller]
    silence = SilenceWatch(
        rules.cancel_when_silent,
        services.environment.data_dir,
        services.clock,
        services[Auditor],
        lambda: canceller.cancel_open("opening", patience=SILENCE_PATIENCE_SECONDS),
        session.context.diagnostics.note if session else lambda _, **__: None,
    )
    services.provide(SilenceWatch, silence)
    alerts = services.provide(OrderAlerts, OrderAlerts(database, journal, services.metrics))
    if session is not None:
        diagnostics = session.context.diagnostics
        alerts.order_unknown.listen(
            lambda record: diagnostics.note("order-fate-unknown", **described(record))
        )


def _reconcile(services: Services, rules: TradingRules) -> None:
    """After each connection, before an order may pass; and what `/health` says of all this."""
    database, gateway, clock = services[Database], services.gateway, services.clock
    reconciler = Reconciler(
        database,
        gateway,
        services[OrderJournal],
        services[OrderSender],
        services[OrderCanceller],
        services[HaltSwitch],
        NumberSequence(database, gateway, clock),
        rules,
        clock,
    )
    services.provide(Reconciler, reconciler)
    gateway.add_reconciler("orders", reconciler.compare, required=True)
    gateway.add_reconciler("orders-clear-up", reconciler.clear_up)
    health.install(services, services[HaltSwitch], reconciler, services[OrderAlerts], rules)
    services.needs.append(services[SilenceWatch].need)
    services.needs.append(services[FlexImport].need)


def _start_and_stop(services: Services) -> None:
    """Begins and ends the work of all of them, in an order that matters."""
    clock, session, probing = services.clock, services.get(TwsSession), list[asyncio.Task[None]]()

    async def start() -> None:
        await services[HaltSwitch].load()
        await services[OrderNumbers].load(services[Database])
        await services[OrderAlerts].load()
        await services[OrderJournal].start()
        await services[Reconciler].start()
        services[SilenceWatch].start()
        away = session.context.diagnostics.away_since() if session else None
        services[FlexImport].start(away)
        probing.append(asyncio.create_task(services[Probe].run(clock), name="journal-probe"))
        retention = services[Retention].run(clock)
        probing.append(asyncio.create_task(retention, name="journal-retention"))

    async def stop() -> None:
        await settle(*probing)
        await services[SilenceWatch].stop()
        await services[FlexImport].stop()
        await services[Reconciler].stop()
        await services[OrderSender].settle_down()
        await services[OrderJournal].stop()
        await services[Urgent].stop()

    services.on_start(start)
    services.on_stop(stop)


def _flex_service(services: Services) -> FlexService | None:
    environment = services.environment
    if not environment.flex_query or environment.flex_token_file is None:
        return None
    address = environment.flex_url or SERVICE
    token, query = environment.flex_token_file, environment.flex_query
    return FlexService(token, query, address, services.clock, fetch)


def _follow_settings(services: Services, preparer: Preparer) -> None:
    """Read-only and the usual account come from the connection settings, where they are kept."""

    async def follow(profile: Profile, _: object) -> None:
        preparer.adopt(read_only=profile.read_only, account=profile.account)

    if SettingsService in services:
        services[SettingsService].on_apply(follow)


def _publish(services: Services, journal: OrderJournal) -> None:
    """On the stream, where there is one."""
    if StreamService not in services:
        return
    hub = services[StreamService].hub
    journal.order_changed.listen(
        lambda record: hub.publish(Topic(ORDERS), _json(order_view(record)))
    )
    journal.execution_changed.listen(
        lambda row: hub.publish(Topic(EXECUTIONS), _json(execution_view(row)))
    )


def _json(view: OrderView | ExecutionView) -> str:
    return msgspec.json.encode(view).decode()
