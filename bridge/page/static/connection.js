// Both sessions, the heartbeat, the pacing budget, the last disconnect, and what happened.

import { sparkline } from "./charts.js";
import { element, facts, find, table } from "./elements.js";
import { age, moment, span, words, yes } from "./format.js";
import { loginWords } from "./today.js";
import { stateTone } from "./verdict.js";

const good = (value) => (value === true ? "up" : value === false ? "lost" : "");

export function showConnection(known, now) {
  const { health, session, events, beats } = known;
  if (health) {
    showTws(health, now);
    showCause(health, now);
    showHeartbeat(health, now);
    showPacing(health.pacing);
    find("server").textContent = `TWS server version ${health.serverVersion || "unknown"}`;
  }
  sparkline(find("heartbeat"), beats);
  showPortal(session, now);
  showEvents(events, now);
}

function showTws(health, now) {
  facts(find("tws"), [
    ["State", words(health.state), stateTone(health)],
    ["Since", `${moment(health.since, now)} (${age(health.since, now)})`],
    ["Socket", yes(health.socketConnected), good(health.socketConnected)],
    ["Upstream", yes(health.upstreamConnected), good(health.upstreamConnected)],
    ["Market data", words(health.marketDataType)],
    ["Client id", String(health.clientId)],
    ["Login", loginWords(health.login, now), health.login?.state === "logged-in" ? "up" : health.login?.code ? "person" : ""],
  ]);
}

function showCause(health, now) {
  facts(find("cause"), [
    ["When", health.lastDisconnectAt ? `${moment(health.lastDisconnectAt, now)} (${age(health.lastDisconnectAt, now)})` : "none on record"],
    ["Reason", health.lastDisconnectReason ?? "none"],
    ["Broker's last word", health.lastIbErrorCode ? `${health.lastIbErrorCode}: ${health.lastIbErrorMessage}` : "none"],
    ["Reconnects", `${health.reconnectAttempts} tried, ${health.reconnectFailures} failed`],
  ]);
}

function showHeartbeat(health, now) {
  facts(find("heartbeat-facts"), [
    ["Last heartbeat", age(health.lastHeartbeatAt, now)],
    ["Gateway answered in", health.heartbeatMilliseconds === null ? "not asked yet" : `${health.heartbeatMilliseconds.toFixed(1)} ms`],
    ["Failures", String(health.heartbeatFailures), health.heartbeatFailures > 0 ? "person" : ""],
    ["Last error", health.lastHeartbeatError ?? "none"],
    ["Connected for", Number.isFinite(health.metrics?.uptimeSeconds) ? span(health.metrics.uptimeSeconds + Math.max(0, now - Date.parse(health.clock)) / 1000) : "not connected"],
  ]);
}

function showPacing(pacing) {
  const node = find("pacing");
  const rows = pacing ? [["Messages in this second", pacing.messagesUsed, pacing.messagesLimit], ["History requests in 10 minutes", pacing.historyUsed, pacing.historyLimit]] : [];
  const shown = rows.filter(([, , limit]) => limit);
  if (node.children.length !== shown.length) {
    node.replaceChildren(...shown.map(() => element("label", {}, "", element("meter", { min: 0 }))));
  }
  shown.forEach(([name, used, limit], index) => {
    const [text, meter] = node.children[index].childNodes;
    text.textContent = `${name}: ${used} of ${limit}`;
    Object.assign(meter, { max: limit, high: limit * 0.9, value: used });
  });
}

// A button is there when it can help: a session that is well has nothing to recover from.
function showPortal(session, now) {
  const off = !session || session.state === "off";
  find("recover").hidden = off || (session.authenticated && session.connected && !session.competing && !session.isDesynced);
  if (off) { facts(find("portal"), [["State", session ? "not configured" : "not known yet"]]); return; }
  facts(find("portal"), [
    ["State", words(session.state), session.isDesynced ? "lost" : ""],
    ["Authenticated", yes(session.authenticated), good(session.authenticated)],
    ["Connected", yes(session.connected), good(session.connected)],
    ["Competing", yes(session.competing), session.competing ? "person" : ""],
    ["Desynced", yes(session.isDesynced), session.isDesynced ? "lost" : ""],
    ["Last recovery", session.lastRecoveryError ? `failed: ${session.lastRecoveryError}` : age(session.lastRecoveryAt, now)],
  ]);
}

const KINDS = {
  "bridge-started": "The bridge started", connected: "Connected to the gateway", disconnected: "Lost the gateway",
  state: "Changed its state", "portal-connected": "The Client Portal is connected", "upstream-lost": "The gateway lost the broker",
  "upstream-restored": "The broker is back", "order-fate-unknown": "The fate of an order is unknown", "login-state": "The login changed",
};

const detailWords = (detail) => Object.entries(detail ?? {}).filter(([, value]) => value !== null && value !== "")
  .map(([name, value]) => (name === "state" ? `now ${words(value)}` : name === "previous" ? `was ${words(value)}` : `${words(name)}: ${typeof value === "object" ? JSON.stringify(value) : value}`)).join(", ");

function showEvents(events, now) {
  table(find("events"), {
    columns: [
      { name: "When", read: (event) => moment(event.at, now) },
      { name: "What", read: (event) => KINDS[event.kind] ?? words(event.kind) },
      { name: "Details", read: (event) => detailWords(event.detail) },
    ],
    rows: [...events].reverse().slice(0, 50),
    key: (event) => event.sequence,
    empty: "Nothing is on record",
  });
}
