// The sandbox's faults, grouped by what they teach: one sentence before, and after it what the bridge did about it and when.

import { button, element, find } from "./elements.js";
import { clock, words } from "./format.js";

const GROUPS = {
  "The line to the gateway": {
    "rst": ["The gateway breaks off", "The connection is reset, as when the gateway is killed: the bridge sees it at once and connects again."],
    "half-open": ["The gateway goes silent", "Nothing is answered and nothing is closed: only the missing heartbeat tells."],
    "fin": ["The gateway hangs up", "The connection is closed properly, as at a planned end."],
    "port-closed": ["Nothing listens", "The gateway's port is closed, as while its container starts."],
    "relay-closes": ["The relay hangs up", "The port accepts and closes at once, as the image's relay does while the gateway logs in."],
    "accept-silent": ["The port says nothing", "The port accepts and never says a word."],
    "frames-cut": ["Messages in pieces", "Messages arrive cut in two."],
    "frames-dribbled": ["One byte at a time", "Messages arrive byte by byte."],
    "wire-rewrite": ["Changed messages", "Some messages of the gateway are changed on their way."],
  },
  "The broker behind it": {
    "upstream-lost": ["The broker is lost", "The gateway stays up but says 1100: no order can be placed until it says 1102."],
    "upstream-restored": ["The broker is back", "The broker is back and data went on (1102)."],
    "upstream-restored-data-lost": ["Back without data", "The broker is back and every subscription is gone (1101)."],
    "competing-session": ["A second login", "Another login of the same user takes the market data (10197)."],
    "rate-exceeded": ["Too many messages", "The gateway says that messages come too fast (error 100)."],
  },
  "The login": {
    "waiting-2fa": ["The login wants a phone", "The gateway runs, but its API is not there before somebody approves."],
    "nightly-restart": ["The nightly restart", "The gateway goes away on purpose for a minute and comes back with its session."],
    "sunday-invalidation": ["Sunday", "The broker ends the week's session: a full login follows."],
    "slow-login": ["A slow login", "The handshake takes long."],
    "client-id-in-use": ["The client id is taken", "Another program holds the bridge's client id (error 326)."],
    "close-after-start": ["Closed after the start", "The connection closes just after the session began."],
  },
  "Orders and fills": {
    "late-fills": ["Late fills", "Fills are reported late."],
    "duplicate-status": ["Everything twice", "Every order status comes twice."],
    "drop-order-ack": ["No acknowledgement", "The gateway never acknowledges an order."],
  },
  "The Client Portal": {
    "portal-desync": ["Logged in, yet refusing", "The Client Portal says it is logged in, yet refuses calls."],
    "portal-competing": ["Another portal session", "Another session has the Client Portal."],
    "portal-logged-out": ["Portal logged out", "The Client Portal is logged out."],
    "portal-500": ["The portal fails", "The Client Portal answers 500."],
    "portal-timeout": ["The portal is silent", "The Client Portal does not answer in time."],
    "portal-429": ["The portal is strict", "The Client Portal says that calls come too fast."],
    "portal-first-status": ["The first answer is wrong", "The Client Portal's first status is not yet the true one."],
  },
};
const PLAIN = Object.assign({}, ...Object.values(GROUPS));
const TOUR = ["rst", "half-open", "upstream-lost", "waiting-2fa", "nightly-restart"];

let begun = null; // {name, at, states}: what was pressed last, and what the bridge did since

export const plainly = (name) => PLAIN[name]?.[0] ?? words(name);

// Buttons stay the same nodes, so that the one with the focus keeps it.
export function drawFaults({ names, faults }, press) {
  const active = new Set(faults.map((fault) => fault.fault));
  const list = find("faults");
  if (list.querySelectorAll("[data-fault]").length !== names.length) {
    const groups = Object.entries(GROUPS).map(([title, group]) => [title, Object.keys(group).filter((name) => names.includes(name))]);
    const rest = names.filter((name) => !PLAIN[name]);
    list.replaceChildren(...[...groups, ["Others", rest]].filter(([, members]) => members.length).flatMap(([title, members]) => [
      element("h3", {}, title), element("div", { className: "faults" }, ...members.map((name) => fault(name, press))),
    ]));
  }
  for (const each of list.querySelectorAll("[data-fault]")) each.setAttribute("aria-pressed", String(active.has(each.dataset.fault)));
  tell(active);
}

function fault(name, press) {
  const pressed = (node) => {
    const on = node.getAttribute("aria-pressed") === "true";
    if (!on) begun = { name, at: Date.now(), states: [] };
    press(node, name, on);
  };
  const node = button(plainly(name), pressed, { "aria-pressed": "false", "data-fault": name });
  return element("p", { className: "fault" }, node, element("span", { className: "fine" }, PLAIN[name]?.[1] ?? ""));
}

// Five faults, one after the other: what will happen, start it, what the bridge did.
let stop = -1;

function showStop() {
  const name = TOUR[stop];
  find("tour").hidden = !name;
  find("take-tour").hidden = Boolean(name);
  if (!name) return;
  find("tour-title").textContent = `${stop + 1} of ${TOUR.length}: ${plainly(name)}`;
  find("tour-text").textContent = PLAIN[name][1];
  find("tour-start").textContent = "Start it";
  find("tour-next").textContent = stop === TOUR.length - 1 ? "Finish" : "Next";
  find("fault-story").textContent = "";
  find("tour-title").focus();
}

export function prepareTour(end) {
  find("take-tour").addEventListener("click", () => { stop = 0; showStop(); });
  find("tour-start").addEventListener("click", () => document.querySelector(`[data-fault="${TOUR[stop]}"][aria-pressed="false"]`)?.click());
  const leave = async (to) => { await end(); stop = to; showStop(); };
  find("tour-next").addEventListener("click", () => leave(stop + 1 < TOUR.length ? stop + 1 : -1));
  find("tour-stop").addEventListener("click", () => leave(-1));
}

// A fault that heals at once would leave no trace but in the events: its story is told.
export function noteState(state) {
  if (!begun || state === begun.states.at(-1)?.state) return;
  begun.states.push({ state, at: Date.now() });
  story();
}

function story() {
  const [lost, back] = [begun.states.find((each) => each.state !== "ready"), begun.states.at(-1)];
  const healed = lost && back.state === "ready";
  find("fault-story").textContent = !lost ? "" : `${plainly(begun.name)}: at ${clock(lost.at)} the bridge was ${words(lost.state)}`
    + (healed ? `, and ready again ${((back.at - lost.at) / 1000).toFixed(1)} s later.` : `; now ${words(back.state)}.`);
}

function tell(active) {
  const told = active.size ? `Active: ${[...active].map(plainly).join(", ")}. Press again to end it.` : "No fault is active.";
  if (find("fault-state").textContent !== told) find("fault-state").textContent = told;
}
