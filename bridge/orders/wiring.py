"""Puts the parts of orders together and gives them their place in the life of the bridge."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec

from bridge.account.service import AccountService
from bridge.auditing import Auditor
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.orders import health
from bridge.orders.cancel import OrderCanceller
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
from bridge.orders.rules import load
from bridge.orders.sender import OrderSender
from bridge.orders.service import OrderService
from bridge.orders.silence import SilenceWatch
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
    database, gateway, clock = services[Database], services.gateway, services.clock
    auditor, urgent, condition = services[Auditor], services[Urgent], services.journal
    condition.identity = database.identity
    rules = load(services.environment.trading_file)
    live = TwsSession in services  # in tests of orders alone there is none
    session = services[TwsSession] if live else None
    accounts = services[AccountService] if AccountService in services else None  # noqa: SIM401
    preparer = Preparer(
        gateway,
        services[ContractService],
        services[QuoteService],
        clock,
        rules,
        services.environment.trading_mode,
        services.environment.restarts,
        accounts,
    )
    journal = services.provide(OrderJournal, OrderJournal(database, gateway, clock, condition))
    halt = services.provide(HaltSwitch, HaltSwitch(database, clock, urgent))
    canceller = OrderCanceller(
        gateway=gateway,
        journal=journal,
        auditor=auditor,
        clock=clock,
        answer_seconds=rules.answer_within_seconds,
    )
    numbers = OrderNumbers(gateway)
    sender = OrderSender(
        database=database,
        gateway=gateway,
        preparer=preparer,
        journal=journal,
        canceller=canceller,
        halt=halt,
        auditor=auditor,
        clock=clock,
        numbers=numbers,
    )
    submitter = OrderSubmitter(
        database=database,
        gateway=gateway,
        preparer=preparer,
        journal=journal,
        sender=sender,
        canceller=canceller,
        halt=halt,
        auditor=auditor,
        clock=clock,
    )
    modifier = OrderModifier(
        gateway=gateway,
        journal=journal,
        preparer=preparer,
        halt=halt,
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
        sender=sender,
        other_clients=other_clients,
        auditor=auditor,
        clock=clock,
    )
    standings = Standings(
        database=database,
        gateway=gateway,
        journal=journal,
        other_clients=other_clients,
        accounts=accounts,
    )
    targets = TargetPlacer(
        preparer=preparer,
        journal=journal,
        submitter=submitter,
        canceller=canceller,
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
        standings=standings,
        history=history,
        auditor=auditor,
        clock=clock,
    )
    exerciser = OptionExerciser(
        preparer=preparer, submitter=submitter, targets=targets, auditor=auditor
    )
    silence = SilenceWatch(
        rules.cancel_when_silent,
        services.environment.data_dir,
        clock,
        auditor,
        lambda: canceller.cancel_open("opening"),
        session.context.diagnostics.note if session else lambda _, **__: None,
    )
    sequence = NumberSequence(database, gateway, clock)
    reconciler = Reconciler(
        database, gateway, journal, sender, canceller, halt, sequence, rules, clock
    )
    alerts = services.provide(OrderAlerts, OrderAlerts(database, journal, services.metrics))
    probe = services.provide(Probe, Probe(database, condition, urgent))
    retention = Retention(database, timedelta(days=services.environment.journal_keep_days))
    services.provide(OrderService, service)
    services.provide(OrderSubmitter, submitter)
    services.provide(OrderModifier, modifier)
    combinations = CombinationQuotes(
        gateway=gateway,
        contracts=services[ContractService],
        quotes=services[QuoteService],
        clock=clock,
    )
    services.provide(CombinationQuotes, combinations)
    services.provide(Standings, standings)
    services.provide(TargetPlacer, targets)
    services.provide(PositionCloser, closer)
    services.provide(OptionExerciser, exerciser)
    services.provide(OrderCanceller, canceller)
    services.provide(OtherClientsOrders, other_clients)
    services.provide(TradingHalt, TradingHalt(halt, canceller, auditor))
    services.provide(JournalService, JournalService(database, condition, auditor, clock))
    services.provide(ExecutionService, ExecutionService(database))
    services.provide(SilenceWatch, silence)
    flex = services.provide(
        FlexImport,
        FlexImport(
            _flex_service(services), database, journal, clock, services.environment.time_zone
        ),
    )
    probing: list[asyncio.Task[None]] = []

    async def start() -> None:
        await halt.load()
        await numbers.load(database)
        await alerts.load()
        await journal.start()
        await reconciler.start()
        silence.start()
        flex.start(session.context.diagnostics.away_since() if session else None)
        probing.append(asyncio.create_task(probe.run(clock), name="journal-probe"))
        probing.append(asyncio.create_task(retention.run(clock), name="journal-retention"))

    async def stop() -> None:
        for task in probing:
            task.cancel()
        await asyncio.gather(*probing, return_exceptions=True)
        await silence.stop()
        await flex.stop()
        await reconciler.stop()
        await sender.settle_down()
        await journal.stop()
        await urgent.stop()

    services.on_start(start)
    services.on_stop(stop)
    services.on_last_words(journal.give_up)
    gateway.add_reconciler("orders", reconciler.reconcile, required=True)
    gateway.add_reconciler("orders-clear-up", reconciler.clear_up)
    health.install(services, halt, reconciler, alerts, rules)
    services.needs.append(silence.need)
    _publish(services, journal)
    _follow_settings(services, preparer)
    if session is not None:
        diagnostics = session.context.diagnostics
        session.context.brakes.append(journal.behind)
        alerts.order_unknown.listen(
            lambda record: diagnostics.note("order-fate-unknown", **described(record))
        )


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
