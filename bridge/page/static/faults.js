// The sandbox's faults: five in plain words, the rest under "more", each with one sentence; and what the bridge did about it.

import { element, find } from "./elements.js";
import { clock, words } from "./format.js";

const FIRST = {
  "rst": ["The gateway breaks off", "The connection is reset, as when the gateway is killed: the bridge sees it at once and connects again."],
  "half-open": ["The gateway goes silent", "Nothing is answered and nothing is closed: only the missing heartbeat tells."],
  "upstream-lost": ["The broker is lost", "The gateway stays up but says 1100: no order can be placed until it says 1102."],
  "waiting-2fa": ["The login wants a phone", "The gateway runs, but its API is not there before somebody approves."],
  "nightly-restart": ["The nightly restart", "The gateway goes away on purpose for a minute and comes back with its session."],
};
const MORE = {
  "fin": "The connection is closed properly.",
  "port-closed": "Nothing listens on the gateway's port.",
  "relay-closes": "The port accepts and closes at once, as the image's relay does while the gateway logs in.",
  "accept-silent": "The port accepts and never says a word.",
  "frames-cut": "Messages arrive in pieces.",
  "frames-dribbled": "Messages arrive one byte at a time.",
  "slow-login": "The handshake takes long.",
  "client-id-in-use": "Another program holds the bridge's client id (error 326).",
  "close-after-start": "The connection closes just after the session began.",
  "upstream-restored": "The broker is back and data went on (1102).",
  "upstream-restored-data-lost": "The broker is back and every subscription is gone (1101).",
  "competing-session": "Another login of the same user takes the market data (10197).",
  "rate-exceeded": "The gateway says that messages come too fast (error 100).",
  "sunday-invalidation": "The broker ends the week's session: a full login follows.",
  "late-fills": "Fills are reported late.",
  "duplicate-status": "Every order status comes twice.",
  "drop-order-ack": "The gateway never acknowledges an order.",
  "portal-desync": "The Client Portal says it is logged in, yet refuses calls.",
  "portal-competing": "Another session has the Client Portal.",
  "portal-logged-out": "The Client Portal is logged out.",
  "portal-500": "The Client Portal answers 500.",
};

let begun = null; // {name, at, states}: what was pressed last, and what the bridge did since

export const plainly = (name) => FIRST[name]?.[0] ?? words(name);

// Buttons stay the same nodes, so that the one with the focus keeps it.
export function drawFaults({ names, faults }, press) {
  const active = new Set(faults.map((fault) => fault.fault));
  const list = find("faults");
  if (list.querySelectorAll("[data-fault]").length !== names.length) {
    const more = names.filter((name) => !FIRST[name]);
    list.replaceChildren(
      element("div", { className: "faults" }, ...Object.keys(FIRST).filter((name) => names.includes(name)).map((name) => fault(name, FIRST[name][1], press))),
      element("details", {}, element("summary", {}, `More faults (${more.length})`), element("div", { className: "faults" }, ...more.map((name) => fault(name, MORE[name] ?? "", press)))),
    );
  }
  for (const button of list.querySelectorAll("[data-fault]")) {
    const on = active.has(button.dataset.fault);
    button.setAttribute("aria-pressed", String(on));
  }
  tell(active);
}

function fault(name, sentence, press) {
  const button = element("button", { type: "button", className: "quiet", "aria-pressed": "false", "data-fault": name }, plainly(name));
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") === "true";
    if (!on) begun = { name, at: Date.now(), states: [] };
    press(button, name, on);
  });
  return element("p", { className: "fault" }, button, element("span", { className: "fine" }, sentence));
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
