// What is known, as words and colours. Nothing here asks the bridge for anything.

import { segments, sparkline, timeline, tone } from "./charts.js";
import { element, facts, find, table } from "./elements.js";
import { age, clock, moment, percent, span, words, yes } from "./format.js";

const VERDICTS = {
  ready: "Ready: orders can be placed", halted: "Connected, trading is halted", starting: "Starting",
  "waiting-for-gateway": "Waiting for the gateway", "waiting-for-2fa": "Waiting for 2FA: approve on IBKR Mobile",
  connecting: "Connecting", "upstream-lost": "The gateway has lost the broker", stalled: "The gateway has stopped answering",
  reconnecting: "Reconnecting", "session-conflict": "Another session is in the way",
};

const good = (value) => (value === true ? "up" : value === false ? "lost" : "");

export function showMode(mode) {
  const node = find("mode");
  node.hidden = !mode;
  node.dataset.mode = mode ?? "";
  node.textContent = mode === "live" ? "LIVE: real money" : String(mode ?? "").toUpperCase();
  document.title = `gangway ${mode ?? ""}`.trim();
}

export function showHealth(health, now) {
  showMode(health.tradingMode);
  const verdict = find("verdict");
  const kind = health.state === "halted" ? "person" : tone(health.state);
  verdict.dataset.tone = kind;
  verdict.dataset.state = health.state;
  find("verdict-title").textContent = VERDICTS[health.state] ?? words(health.state);
  find("next-action").textContent = health.nextAction ?? "";
  facts(find("tws"), [
    ["State", words(health.state), kind],
    ["Since", `${moment(health.since, now)} (${age(health.since, now)})`],
    ["Socket", yes(health.socketConnected), good(health.socketConnected)],
    ["Upstream", yes(health.upstreamConnected), good(health.upstreamConnected)],
    ["Market data", words(health.marketDataType)],
    ["Client id", String(health.clientId)],
  ]);
  facts(find("cause"), [
    ["When", health.lastDisconnectAt ? `${moment(health.lastDisconnectAt, now)} (${age(health.lastDisconnectAt, now)})` : "none on record"],
    ["Reason", health.lastDisconnectReason ?? "none"],
    ["Broker's last word", health.lastIbErrorCode ? `${health.lastIbErrorCode}: ${health.lastIbErrorMessage}` : "none"],
    ["Reconnects", `${health.reconnectAttempts} tried, ${health.reconnectFailures} failed`],
  ]);
  facts(find("heartbeat-facts"), [
    ["Last", age(health.lastHeartbeatAt, now)],
    ["Gateway answered in", health.heartbeatMilliseconds === null ? "not asked yet" : `${health.heartbeatMilliseconds.toFixed(1)} ms`],
    ["Failures", String(health.heartbeatFailures), health.heartbeatFailures > 0 ? "person" : ""],
    ["Last error", health.lastHeartbeatError ?? "none"],
    ["Connected for", health.metrics?.uptimeSeconds ? span(health.metrics.uptimeSeconds) : "not connected"],
  ]);
  find("availability").textContent = `Available ${percent(health.metrics?.availability24h)} of the last 24 hours.`;
  find("server").textContent = `TWS server version ${health.serverVersion || "unknown"}`;
  showPacing(health.pacing);
}

function showPacing(pacing) {
  if (!pacing) { find("pacing").replaceChildren(element("p", { className: "fine" }, "not reported")); return; }
  const rows = [["Messages in this second", pacing.messagesUsed, pacing.messagesLimit], ["History requests in 10 minutes", pacing.historyUsed, pacing.historyLimit]];
  find("pacing").replaceChildren(...rows.filter(([, , limit]) => limit).map(([name, used, limit]) => {
    const bar = element("meter", { min: 0, max: limit, high: limit * 0.9, value: used });
    return element("label", {}, `${name}: ${used} of ${limit}`, bar);
  }));
}

export function showPortal(session, now) {
  find("recover").hidden = !session || session.state === "off";
  if (!session || session.state === "off") { facts(find("portal"), [["State", "not configured"]]); return; }
  facts(find("portal"), [
    ["State", words(session.state), session.isDesynced ? "lost" : ""],
    ["Authenticated", yes(session.authenticated), good(session.authenticated)],
    ["Connected", yes(session.connected), good(session.connected)],
    ["Competing", yes(session.competing), session.competing ? "person" : ""],
    ["Desynced", yes(session.isDesynced), session.isDesynced ? "lost" : ""],
    ["Last recovery", session.lastRecoveryError ? `failed: ${session.lastRecoveryError}` : age(session.lastRecoveryAt, now)],
  ]);
}

export function showTimeline(events, health, now) {
  const known = events.filter((event) => event.kind === "state").map((event) => ({ at: Date.parse(event.at), state: event.detail.state }));
  if (health) known.push({ at: Date.parse(health.since), state: health.state });
  timeline(find("timeline"), segments(known, now), now);
}

export function showHeartbeat(values) {
  sparkline(find("heartbeat"), values);
}

export function showTrading(halt, orders, executions) {
  const halted = halt?.halted === true;
  find("halt-state").textContent = halt ? (halted ? `Halted${halt.reason ? `: ${halt.reason}` : ""}` : "Orders are accepted") : "";
  const button = find("halt");
  button.textContent = halted ? "Resume trading" : "Halt trading";
  button.className = halted ? "" : "danger";
  table(find("orders"), "Open orders", [
    ["Symbol", (order) => order.symbol], ["Side", (order) => order.action],
    ["Quantity", (order) => order.quantity, "number"], ["Type", (order) => order.orderType],
    ["Limit", (order) => order.limitPrice, "number"], ["Filled", (order) => order.filled, "number"],
    ["Status", (order) => (order.state === "unknown" ? "UNKNOWN: check with the broker" : words(order.status ?? order.state))],
  ], orders, "No open orders");
  table(find("executions"), "Executions", [
    ["Time", (item) => clock(item.time)], ["Symbol", (item) => item.symbol], ["Side", (item) => item.side],
    ["Quantity", (item) => item.quantity, "number"], ["Price", (item) => item.price, "number"],
    ["Commission", (item) => item.commission ?? "", "number"], ["Account", (item) => item.account],
  ], executions, "No executions today");
}

export function showFreshness(heard, link, now, old) {
  const fresh = link === "open" && heard && now - heard < old;
  document.body.dataset.freshness = fresh ? "live" : "old";
  find("freshness").textContent = fresh ? "live" : heard ? `not live: last heard at ${clock(heard)}` : "not connected to the bridge";
}
