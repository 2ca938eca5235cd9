// What is on every screen: the sentence, what to do, how fresh it is, and the switch that halts.

import { tone } from "./charts.js";
import { element, find } from "./elements.js";
import { clock, words } from "./format.js";

const VERDICTS = {
  ready: "Ready: orders can be placed", halted: "Connected, trading is halted", starting: "Starting",
  "waiting-for-gateway": "Waiting for the gateway", "waiting-2fa": "Waiting for the second factor",
  connecting: "Connecting", "upstream-lost": "The gateway has lost the broker", stalled: "The gateway has stopped answering",
  reconnecting: "Reconnecting", "session-conflict": "Another session is in the way",
};

// Halted or not is read here alone: the verdict and the button may never tell two things.
export const isHalted = (health) => (health?.needs ?? []).some((need) => need.code === "halted");

// What keeps orders back although the session with the gateway is complete.
const NO_ORDERS = ["halted", "read-only", "stalled"];
export const takesOrders = (health) => Boolean(health?.connected) && !NO_ORDERS.includes(health.state);

export const stateTone = (health) => {
  const waits = health.state === "ready" && (health.needs ?? []).length > 0;
  return health.state === "halted" || waits ? "person" : tone(health.state);
};

function showMode(mode) {
  const node = find("mode");
  node.hidden = !mode;
  node.dataset.mode = mode ?? "";
  node.textContent = mode === "live" ? "LIVE: real money" : String(mode ?? "").toUpperCase();
  document.title = `gangway ${mode ?? ""}`.trim();
}

export function showVerdict(health) {
  showMode(health.tradingMode);
  const verdict = find("verdict");
  const needs = health.needs ?? [];
  verdict.dataset.tone = stateTone(health);
  verdict.dataset.state = health.state;
  const ofNeed = needs.length && (health.state === "ready" || (health.connected && health.state !== "halted" && !takesOrders(health)));
  const title = ofNeed ? (needs.find((need) => need.code !== "halted") ?? needs[0]).message : VERDICTS[health.state] ?? words(health.state);
  find("verdict-title").textContent = title;
  find("next-action").textContent = health.nextAction ?? "";
  showNeeds(needs, title);
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

export function showHalt(halt, health, may) {
  const halted = isHalted(health);
  const open = takesOrders(health) ? "Orders are accepted." : "Not halted, but no order can be placed now.";
  const reason = halted && halt?.halted && halt.reason ? `: ${halt.reason}` : ".";
  const forgotten = halted && halt?.survivesRestart === false ? ` ${halt.nextStep}` : "";
  find("halt-state").textContent = health ? (halted ? `Trading is halted${reason}${forgotten}` : open) : "";
  const button = find("halt");
  button.textContent = halted ? "Resume trading" : "Halt trading";
  button.className = halted ? "" : "danger";
  button.hidden = !may(halted ? "admin" : "trade");
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
