// What is known, as words and colours. Nothing here asks the bridge for anything.

import { segments, sparkline, timeline, tone } from "./charts.js";
import { element, facts, find, table } from "./elements.js";
import { age, clock, contract, moment, percent, span, words, yes } from "./format.js";

const VERDICTS = {
  ready: "Ready: orders can be placed", halted: "Connected, trading is halted", starting: "Starting",
  "waiting-for-gateway": "Waiting for the gateway", "waiting-2fa": "Waiting for the second factor",
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
  const needs = health.needs ?? [];
  const kind = health.state === "halted" || (health.state === "ready" && needs.length) ? "person" : tone(health.state);
  verdict.dataset.tone = kind;
  verdict.dataset.state = health.state;
  const title = health.state === "ready" && needs.length ? needs[0].message : VERDICTS[health.state] ?? words(health.state);
  find("verdict-title").textContent = title;
  find("next-action").textContent = health.nextAction ?? "";
  showNeeds(needs, title);
  facts(find("tws"), [
    ["State", words(health.state), kind],
    ["Since", `${moment(health.since, now)} (${age(health.since, now)})`],
    ["Socket", yes(health.socketConnected), good(health.socketConnected)],
    ["Upstream", yes(health.upstreamConnected), good(health.upstreamConnected)],
    ["Market data", words(health.marketDataType)],
    ["Client id", String(health.clientId)],
    ["Login", loginWords(health.login), health.login?.state === "logged-in" ? "up" : health.login?.code ? "person" : ""],
  ]);
  facts(find("cause"), [
    ["When", health.lastDisconnectAt ? `${moment(health.lastDisconnectAt, now)} (${age(health.lastDisconnectAt, now)})` : "none on record"],
    ["Reason", health.lastDisconnectReason ?? "none"],
    ["Broker's last word", health.lastIbErrorCode ? `${health.lastIbErrorCode}: ${health.lastIbErrorMessage}` : "none"],
    ["Reconnects", `${health.reconnectAttempts} tried, ${health.reconnectFailures} failed`],
  ]);
  facts(find("heartbeat-facts"), [
    ["Last heartbeat", age(health.lastHeartbeatAt, now)],
    ["Gateway answered in", health.heartbeatMilliseconds === null ? "not asked yet" : `${health.heartbeatMilliseconds.toFixed(1)} ms`],
    ["Failures", String(health.heartbeatFailures), health.heartbeatFailures > 0 ? "person" : ""],
    ["Last error", health.lastHeartbeatError ?? "none"],
    ["Connected for", Number.isFinite(health.metrics?.uptimeSeconds) ? span(health.metrics.uptimeSeconds + Math.max(0, now - Date.parse(health.clock)) / 1000) : "not connected"],
  ]);
  find("server").textContent = `TWS server version ${health.serverVersion || "unknown"}`;
  showPacing(health.pacing);
}

function loginWords(login) {
  if (!login) return "not reported";
  return [words(login.state), login.kind ?? login.why ?? login.window ?? login.code].filter(Boolean).join(": ");
}

// One list of what only a person can mend; the first is the sentence above when nothing is worse.
function showNeeds(needs, title) {
  const rest = needs.filter((need) => need.message !== title);
  const list = find("needs");
  list.hidden = rest.length === 0;
  const texts = rest.map((need) => `${need.message}: ${need.nextStep}`);
  if (list.dataset.shown === JSON.stringify(texts)) return;
  list.dataset.shown = JSON.stringify(texts);
  list.replaceChildren(...texts.map((text) => element("li", {}, text)));
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
  const first = known.length ? Math.min(...known.map((event) => event.at)) : now;
  const recorded = Math.min((now - first) / 1000, 86_400);
  find("availability").textContent = recorded < 600 || !health
    ? "No record yet: availability is told after ten minutes."
    : `Available ${percent(health.metrics?.availability24h)} of the last ${recorded > 86_000 ? "24 hours" : span(recorded)}.`;
}

export function showHeartbeat(values) {
  sparkline(find("heartbeat"), values);
}

function settleButton(order, settle) {
  const button = element("button", { type: "button", "data-order": order.orderId }, "UNKNOWN: settle");
  button.addEventListener("click", () => settle(order, button));
  return button;
}

// Halted or not is read here alone: the verdict and the button may never tell two things.
export const isHalted = (health) => (health?.needs ?? []).some((need) => need.code === "halted");

export function showTrading(halt, orders, executions, health, settle) {
  const halted = isHalted(health);
  const open = health?.connected ? "Orders are accepted" : "Not halted, but no order can be placed now";
  find("halt-state").textContent = halt ? (halted ? `Halted${halt.halted && halt.reason ? `: ${halt.reason}` : ""}` : open) : "";
  const button = find("halt");
  button.textContent = halted ? "Resume trading" : "Halt trading";
  button.className = halted ? "" : "danger";
  table(find("orders"), "Open orders", [
    ["Contract", contract], ["Side", (order) => order.action],
    ["Quantity", (order) => order.quantity, "number"], ["Type", (order) => order.orderType],
    ["Limit", (order) => order.limitPrice, "number"], ["Stop", (order) => order.stopPrice, "number"], ["Filled", (order) => order.filled, "number"],
    ["Status", (order) => (order.state === "unknown" ? settleButton(order, settle) : words(order.status ?? order.state))],
  ], orders, "No open orders");
  table(find("executions"), "Executions", [
    ["Time", (item) => clock(item.time)], ["Contract", contract], ["Side", (item) => item.side],
    ["Quantity", (item) => item.quantity, "number"], ["Price", (item) => item.price, "number"],
    ["Commission", (item) => item.commission ?? "", "number"], ["Account", (item) => item.account],
  ], executions, "No executions today");
}

export function showFreshness(heard, link, now, old) {
  const fresh = link === "open" && heard && now - heard < old;
  document.body.dataset.freshness = fresh ? "live" : "old";
  find("freshness").textContent = fresh ? "up to date" : heard ? `no contact with the bridge since ${clock(heard)}` : "not connected to the bridge";
  if (fresh || !heard) return;
  const verdict = find("verdict"); // what was true then is not said of now
  verdict.dataset.tone = "unknown";
  verdict.dataset.state = "no-contact";
  find("verdict-title").textContent = `No contact since ${clock(heard)}`;
  find("next-action").textContent = "What is shown is from then. ./deploy.py status asks the machine itself; the page goes on trying.";
}
