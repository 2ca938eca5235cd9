// @stoqey/ib against a simulator; prints what it saw as JSON.
// Usage: node stoqey.cjs FOLDER PORT CLIENT_ID GROUPS
// FOLDER holds node_modules. The library itself checks each message for missing and unread fields
// and reports them, and unknown messages, as errors with code 505: each is a problem.

const { createRequire } = require("node:module");
const path = require("node:path");

const [folder, port, clientId, groups] = process.argv.slice(2);
const library = createRequire(path.resolve(folder, "package.json"))("@stoqey/ib");
const { EventName, IBApi } = library;
const PATIENCE = 20000;
const UNKNOWN = 505;

const problems = [];
const errors = [];
const events = [];
const waiting = new Set();

function check() {
  for (const each of [...waiting]) {
    if (each.true()) {
      waiting.delete(each);
      clearTimeout(each.timer);
      each.resolve();
    }
  }
}

function until(isTrue, what) {
  return new Promise((resolve, reject) => {
    const entry = { true: isTrue, resolve };
    entry.timer = setTimeout(() => {
      waiting.delete(entry);
      reject(new Error(`nothing came: ${what}; errors ${JSON.stringify(errors)}`));
    }, PATIENCE);
    waiting.add(entry);
    check();
  });
}

function seen(name, since = 0) {
  return events.slice(since).filter((each) => each.name === name).map((each) => each.args);
}

const ib = new IBApi({ host: "127.0.0.1", port: Number(port), clientId: Number(clientId) });
for (const name of Object.values(EventName)) {
  ib.on(name, (...args) => {
    if (name === EventName.info) errors.push([-1, args[1]]);
    if (name === EventName.error) {
      errors.push([args[2] ?? -1, args[1]]);
      if (args[1] === UNKNOWN) problems.push(String(args[0].message ?? args[0]).slice(0, 300));
    }
    if (name !== EventName.received && name !== EventName.sent && name !== EventName.all) {
      events.push({ name, args });
      check();
    }
  });
}

async function ask(request, end) {
  const since = events.length;
  request();
  await until(() => seen(end, since).length, end);
  return since;
}

const stock = () => ({ symbol: "AAPL", secType: "STK", exchange: "SMART", currency: "USD" });
const order = (terms) => ({
  action: "BUY",
  totalQuantity: 100,
  tif: "DAY",
  transmit: true,
  ...terms,
});
const statuses = (id) =>
  seen(EventName.orderStatus).filter((each) => each[0] === id).map((each) => each[1]);
const connected = () => seen(EventName.disconnected).length === 0;
const raised = (id, code) => errors.some((each) => each[0] === id && each[1] === code);
const account = () => seen(EventName.managedAccounts)[0][0].split(",")[0];

const run = {
  async session() {
    const since = await ask(() => ib.reqCurrentTime(), EventName.currentTime);
    return {
      serverVersion: ib.serverVersion,
      accounts: seen(EventName.managedAccounts)[0][0].split(","),
      nextId: seen(EventName.nextValidId)[0][0],
      time: seen(EventName.currentTime, since)[0][0],
    };
  },

  // The checks themselves: a short, a long and an unknown message are problems.
  async selftest() {
    const before = problems.length;
    const decoder = ib.controller.decoder;
    const status = "3,7,Filled,1,0,1.0,5,0,1.0,1,,0".split(",");
    for (const fields of [status.slice(0, 6), [...status, "more"], ["999", "1"]]) {
      decoder.enqueueMessage(fields);
      decoder.process();
    }
    await until(() => problems.length > before + 2, "self-test");
    return { found: problems.splice(before).length };
  },

  async contracts() {
    let since = await ask(
      () => ib.reqContractDetails(801, stock()),
      EventName.contractDetailsEnd,
    );
    const details = seen(EventName.contractDetails, since)[0][1];
    since = await ask(
      () => ib.reqContractDetails(802, { symbol: "ES", secType: "FUT", exchange: "CME" }),
      EventName.contractDetailsEnd,
    );
    const futures = seen(EventName.contractDetails, since).length > 1;
    ib.reqContractDetails(805, { ...stock(), symbol: "NOSUCH" });
    await until(() => raised(805, 200), "error 200");
    const { found, rich } = await option(806);
    since = await ask(() => ib.reqContractDetails(807, found), EventName.contractDetailsEnd);
    const qualified = seen(EventName.contractDetails, since).length > 0;
    await ask(() => ib.reqFamilyCodes(), EventName.familyCodes);
    await ask(() => ib.reqMatchingSymbols(808, "AA"), EventName.symbolSamples);
    await ask(() => ib.reqMktDepthExchanges(), EventName.mktDepthExchanges);
    await ask(() => ib.reqNewsProviders(), EventName.newsProviders);
    await ask(() => ib.reqMarketRule(26), EventName.marketRule);
    return {
      conId: details.contract.conId,
      longName: details.longName,
      tick: details.minTick,
      futures,
      unknown: 200,
      chain: rich,
      option: qualified,
    };
  },

  async market() {
    ib.reqMarketDataType(1);
    ib.reqMktData(701, stock(), "100,101,104,106,233", false, false);
    const wanted = ["tickPrice", "tickSize", "tickString", "tickGeneric", "tickReqParams"];
    await until(() => wanted.every((name) => seen(name).length), "ticks");
    const exchanges = seen(EventName.tickReqParams)[0][2];
    await ask(() => ib.reqSmartComponents(712, exchanges), EventName.smartComponents);
    ib.cancelMktData(701);
    await ask(() => ib.reqMktData(702, stock(), "", true, false), EventName.tickSnapshotEnd);
    const kinds = new Set(seen(EventName.tickPrice).map((each) => each[1]));
    const { found } = await option(713);
    ib.reqMktData(703, found, "", false, false);
    await until(() => seen(EventName.tickOptionComputation).length, "greeks");
    ib.cancelMktData(703);
    const calculated = (id) => seen(EventName.tickOptionComputation).some((each) => each[0] === id);
    ib.calculateImpliedVolatility(704, found, 20, 200);
    ib.calculateOptionPrice(705, found, 0.3, 200);
    await until(() => calculated(704) && calculated(705), "calculations");
    ib.reqMktDepth(706, stock(), 5, true);
    await until(() => seen(EventName.updateMktDepthL2).length, "depth");
    ib.cancelMktDepth(706, true);
    for (const [id, kind, name] of [
      [707, "Last", EventName.tickByTickAllLast],
      [708, "BidAsk", EventName.tickByTickBidAsk],
      [709, "MidPoint", EventName.tickByTickMidPoint],
    ]) {
      ib.reqTickByTickData(id, stock(), kind, 0, false);
      await wind(30);
      await until(() => seen(name).length, name);
      ib.cancelTickByTickData(id);
    }
    ib.reqRealTimeBars(710, stock(), 5, "TRADES", true);
    await wind(10);
    await until(() => seen(EventName.realtimeBar).length, "real-time bars");
    ib.cancelRealTimeBars(710);
    ib.reqMktData(711, { ...stock(), symbol: "NOSUCH" }, "", false, false);
    await until(() => raised(711, 200), "error 200");
    return { prices: [1, 2, 4].filter((kind) => kinds.has(kind)), unknown: 200 };
  },

  async history() {
    const bars = {};
    const ended = (id) =>
      seen(EventName.historicalData).some((each) => each[0] === id && each[2] === -1);
    for (const [id, duration, size, show, keep] of [
      [601, "2 D", "1 hour", "TRADES", false],
      [602, "1 M", "1 day", "MIDPOINT", false],
      [603, "3600 S", "5 mins", "BID_ASK", false],
      [604, "1 D", "30 mins", "TRADES", true],
    ]) {
      ib.reqHistoricalData(id, stock(), "", duration, size, show, keep ? 0 : 1, 1, keep);
      await until(() => ended(id), `history ${id}`);
      const found = seen(EventName.historicalData).filter((each) => each[0] === id);
      bars[show + (keep ? " kept" : "")] = found.length > 1;
      if (keep) {
        await wind(10);
        await until(() => seen(EventName.historicalDataUpdate).length, "bar updates");
        ib.cancelHistoricalData(id);
      }
    }
    await ask(
      () => ib.reqHeadTimestamp(605, stock(), "TRADES", true, 1),
      EventName.headTimestamp,
    );
    await ask(() => ib.reqHistogramData(606, stock(), true, 3, "DAY"), EventName.histogramData);
    const end = "20261120 15:00:00 US/Eastern";
    for (const [id, show, name] of [
      [607, "TRADES", EventName.historicalTicksLast],
      [608, "BID_ASK", EventName.historicalTicksBidAsk],
      [609, "MIDPOINT", EventName.historicalTicks],
    ]) {
      await ask(() => ib.reqHistoricalTicks(id, stock(), "", end, 10, show, 1, true), name);
    }
    await ask(
      () => ib.reqHistoricalData(610, stock(), "", "5 D", "1 day", "SCHEDULE", 1, 1, false),
      EventName.historicalSchedule,
    );
    const nowhere = { ...stock(), symbol: "NOSUCH" };
    ib.reqHistoricalData(611, nowhere, "", "1 D", "1 hour", "TRADES", 1, 1, false);
    await until(() => raised(611, 200), "error 200");
    return { bars, none: 200 };
  },

  // Faults that a client lives through, posted by the client itself.
  async faults() {
    await control("POST", "/faults", { fault: "frames-dribbled", seconds: 0.3 });
    await ask(() => ib.reqContractDetails(501, stock()), EventName.contractDetailsEnd);
    await control("DELETE", "/faults");
    await control("POST", "/faults", { fault: "upstream-lost" });
    await until(() => raised(-1, 1100), "1100");
    await control("DELETE", "/faults");
    await until(() => raised(-1, 1102), "1102");
    await control("POST", "/faults", { fault: "duplicate-status" });
    const number = seen(EventName.nextValidId)[0][0] + 50;
    ib.placeOrder(number, stock(), order({ orderType: "LMT", lmtPrice: 10 }));
    const submitted = () => statuses(number).filter((each) => each === "Submitted").length;
    await until(() => submitted() === 2, "duplicate");
    await control("DELETE", "/faults");
    await control("POST", "/faults", { fault: "late-fills" });
    ib.placeOrder(number + 1, stock(), order({ orderType: "MKT" }));
    await until(() => statuses(number + 1).includes("Submitted"), "Submitted");
    await wind(30);
    const early = statuses(number + 1).at(-1);
    await control("DELETE", "/faults");
    await until(() => statuses(number + 1).includes("Filled"), "late fill");
    await control("POST", "/faults", { fault: "drop-order-ack" });
    const lost = order({ orderType: "MKT", orderRef: "unacknowledged" });
    ib.placeOrder(number + 2, stock(), lost);
    await until(() => !connected(), "dropped");
    await control("DELETE", "/faults");
    return { duplicates: statuses(number), early, unacknowledged: statuses(number + 2) };
  },

  async orders() {
    const first = seen(EventName.nextValidId).at(-1)[0];
    ib.placeOrder(first, stock(), order({ orderType: "MKT", orderRef: "market" }));
    await until(() => seen(EventName.commissionReport).length, "commission");
    await until(() => statuses(first).includes("Filled"), "Filled");
    const execution = seen(EventName.execDetails).at(-1)[2];
    const opened = seen(EventName.openOrder).at(-1);
    const result = {
      firstId: first,
      market: {
        statuses: statuses(first),
        execId: execution.execId,
        shares: execution.shares,
        price: execution.price,
        side: execution.side,
        orderRef: execution.orderRef,
        permId: opened[2].permId,
        commission: seen(EventName.commissionReport).at(-1)[0].commission,
        state: opened[3].status,
      },
    };
    const resting = first + 1;
    const limit = { orderType: "LMT", lmtPrice: 10, orderRef: "resting" };
    ib.placeOrder(resting, stock(), order(limit));
    await until(() => statuses(resting).includes("Submitted"), "Submitted");
    ib.placeOrder(resting, stock(), order({ ...limit, lmtPrice: 11 }));
    await until(() => seen(EventName.openOrder).some((each) => each[2].lmtPrice === 11), "modified");
    result.modified = seen(EventName.openOrder).at(-1)[2].lmtPrice;
    const since = await ask(() => ib.reqOpenOrders(), EventName.openOrderEnd);
    result.open = seen(EventName.openOrder, since).map((each) => each[2].orderRef);
    ib.cancelOrder(resting);
    await until(() => raised(resting, 202), "error 202");
    result.resting = statuses(resting);
    const asked = await ask(
      () => ib.placeOrder(first + 2, stock(), order({ orderType: "MKT", whatIf: true })),
      EventName.openOrder,
    );
    const state = seen(EventName.openOrder, asked)[0][3];
    result.whatIf = { commission: state.commission, after: Number(state.initMarginAfter) };
    result.bracket = await bracket(first + 3);
    ib.placeOrder(first + 6, { ...stock(), symbol: "NOSUCH" }, order({ orderType: "MKT" }));
    ib.placeOrder(first + 7, stock(), order({ orderType: "LMT", lmtPrice: 10.001 }));
    ib.cancelOrder(first + 900);
    const wanted = [[first + 6, 200], [first + 7, 110], [first + 900, 10147]];
    await until(() => wanted.every(([id, code]) => raised(id, code)), "refusals");
    result.refused = wanted.map(([, code]) => code).sort((a, b) => a - b);
    const completed = await ask(() => ib.reqCompletedOrders(false), EventName.completedOrdersEnd);
    result.completed = seen(EventName.completedOrder, completed).map((each) => [
      each[1].orderRef ?? "",
      each[2].status,
    ]);
    return result;
  },

  async executions() {
    const all = await ask(() => ib.reqExecutions(901, {}), EventName.execDetailsEnd);
    const ids = seen(EventName.execDetails, all).map((each) => each[2].execId);
    const none = await ask(
      () => ib.reqExecutions(902, { symbol: "NOSUCH" }),
      EventName.execDetailsEnd,
    );
    return { all: ids, none: seen(EventName.execDetails, none).length };
  },

  async account() {
    const name = account();
    let since = await ask(() => ib.reqPositions(), EventName.positionEnd);
    const positions = Object.fromEntries(
      seen(EventName.position, since).map((each) => [each[1].symbol, [each[2], each[3]]]),
    );
    ib.cancelPositions();
    const tags = "NetLiquidation,TotalCashValue,BuyingPower,$LEDGER";
    since = await ask(
      () => ib.reqAccountSummary(911, "All", tags),
      EventName.accountSummaryEnd,
    );
    const summary = [...new Set(seen(EventName.accountSummary, since).map((each) => each[2]))];
    ib.cancelAccountSummary(911);
    since = await ask(() => ib.reqAccountUpdates(true, name), EventName.accountDownloadEnd);
    const values = Object.fromEntries(seen(EventName.updateAccountValue, since));
    const portfolio = seen(EventName.updatePortfolio, since).map((each) => each[0].symbol);
    ib.reqAccountUpdates(false, name);
    await ask(() => ib.reqPositionsMulti(912, name, ""), EventName.positionMultiEnd);
    ib.cancelPositionsMulti(912);
    await ask(
      () => ib.reqAccountUpdatesMulti(913, name, "", false),
      EventName.accountUpdateMultiEnd,
    );
    ib.cancelAccountUpdatesMulti(913);
    since = await ask(() => ib.reqPnL(914, name, ""), EventName.pnl);
    const pnl = seen(EventName.pnl, since)[0].slice(1);
    ib.cancelPnL(914);
    since = await ask(() => ib.reqPnLSingle(915, name, "", 265598), EventName.pnlSingle);
    const held = seen(EventName.pnlSingle, since)[0][1];
    ib.cancelPnLSingle(915);
    return {
      positions,
      summary: summary.sort(),
      net: Number(values.NetLiquidation),
      portfolio,
      pnl,
      held,
    };
  },

  async others() {
    const since = await ask(() => ib.reqAllOpenOrders(), EventName.openOrderEnd);
    const clients = seen(EventName.openOrder, since).map((each) => each[2].clientId);
    ib.reqAutoOpenOrders(true);
    await until(() => raised(-1, 321), "auto-bind refused");
    ib.reqGlobalCancel();
    return { clients: [...new Set(clients)].sort() };
  },
};

async function control(method, route, body) {
  const url = `http://127.0.0.1:${process.env.CONTROL_PORT}${route}`;
  const answer = await fetch(url, { method, body: JSON.stringify(body ?? {}) });
  await answer.arrayBuffer();
}

// Wind the simulator's clock forward, once what was sent before has arrived.
async function wind(seconds) {
  await ask(() => ib.reqIds(), EventName.nextValidId);
  await control("POST", "/clock", { advance: seconds });
}

async function option(number) {
  const since = await ask(
    () => ib.reqSecDefOptParams(number, "AAPL", "", "STK", 265598),
    EventName.securityDefinitionOptionParameterEnd,
  );
  const chain = seen(EventName.securityDefinitionOptionParameter, since)[0];
  const [expirations, strikes] = [chain[5].toSorted(), chain[6].toSorted((a, b) => a - b)];
  const found = {
    ...stock(),
    secType: "OPT",
    right: "C",
    strike: strikes[Math.floor(strikes.length / 2)],
    lastTradeDateOrContractMonth: expirations.at(-1),
  };
  return { found, rich: expirations.length > 3 && strikes.length > 10 };
}

async function bracket(parent) {
  const child = { action: "SELL", parentId: parent };
  const entry = { orderType: "LMT", lmtPrice: 10, transmit: false, orderRef: "parent" };
  ib.placeOrder(parent, stock(), order(entry));
  const profit = { orderType: "LMT", lmtPrice: 900, transmit: false, ...child };
  ib.placeOrder(parent + 1, stock(), order(profit));
  ib.placeOrder(parent + 2, stock(), order({ orderType: "STP", auxPrice: 5, ...child }));
  await until(() => statuses(parent + 2).length > 1, "bracket");
  const legs = [0, 1, 2].map((step) => parent + step);
  const held = legs.map((id) => statuses(id).at(-1));
  ib.cancelOrder(parent);
  await until(() => legs.every((id) => statuses(id).at(-1) === "Cancelled"), "bracket cancelled");
  return held;
}

async function main() {
  const result = {};
  try {
    ib.connect();
    await until(() => seen(EventName.nextValidId).length, "nextValidId");
    for (const name of groups.split(",")) result[name] = await run[name]();
  } catch (error) {
    problems.push(String(error));
  }
  result.problems = problems;
  console.log(JSON.stringify([result]));
  ib.disconnect();
  process.exit(0);
}

main();
