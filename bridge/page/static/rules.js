// The position manager: how far each trigger is, what would happen now, each rule's switch, and what was decided.

import { call, optional, reader } from "./api.js";
import { button, confirmed, find, table } from "./elements.js";
import { moment, number, signed, words } from "./format.js";
import { gain } from "./today.js";

let known = null; // the answer of GET /rules
let events = [];
let act = null;
let may = () => false;

const read = reader(() => Promise.all([optional("rules").catch(() => null), optional("rules/events?limit=30").catch(() => null)]));

export async function loadRules() {
  const answer = await read();
  if (answer) [known, events] = [answer[0], answer[1]?.events ?? []];
}

export function forgetRules() {
  read.overtake();
  [known, events] = [null, []];
}

const distance = (trigger) => {
  const name = words(trigger.name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`));
  if (trigger.met) return `${name}: reached`;
  if (trigger.unknown) return `${name}: ${trigger.unknown}`;
  return typeof trigger.distance === "number" ? `${name}: ${number(Math.round(trigger.distance * 100) / 100)} away` : name;
};

const nowWords = (row) => {
  const met = row.triggers.some((trigger) => trigger.met);
  if (row.waits) return `nothing: ${row.waits}`;
  return met ? (row.mode === "trade" ? "closes" : "would close") : "nothing";
};

const STANDING = [
  { name: "Position", read: (row) => `${row.name} ${number(row.quantity)}` },
  { name: "Rule", read: (row) => row.rule },
  { name: "Mode", read: (row) => row.mode },
  { name: "Profit", read: (row) => signed(row.profit), number: true, tone: (row) => gain(row.profit) },
  { name: "Triggers", read: (row) => row.triggers.map(distance).join("; ") },
  { name: "Now", read: nowWords },
];

// As the bridge has it: `simulate` for all, in stack.yaml or here, holds whatever a rule says; `trade` for the rules beside it.
const modeOf = (rule) => {
  const all = [known?.fromFile?.mode, known?.mode];
  return all.includes("simulate") ? "simulate" : rule.mode ?? (rule.file ? all[0] : all[1]) ?? "simulate";
};

const matchWords = (match) => Object.entries(match).filter(([, value]) => value !== null && value !== false && !(Array.isArray(value) && !value.length))
  .map(([name, value]) => (name === "symbol" ? [value].flat().join(", ") : `${words(name)} ${typeof value === "object" ? JSON.stringify(value) : value}`)).join(", ");

const stateWords = (rule) => {
  if (!rule.file && known?.overridden?.includes(rule.id)) return "does nothing: stack.yaml has a rule of this name";
  return `${rule.enabled ? "on" : "off"}${rule.file ? ", from stack.yaml" : ""}`;
};

const RULES = [
  { name: "Rule", read: (rule) => rule.id }, { name: "For", read: (rule) => matchWords(rule.match) },
  { name: "Mode", read: modeOf },
  { name: "State", read: stateWords },
  {
    name: "Actions",
    make: (rule) => button("Switch off", (pressed) => toggle(rule(), pressed)),
    update: (node, rule) => {
      node.hidden = rule.file || !may("trade");
      const text = rule.enabled ? "Switch off" : "Switch on";
      if (node.textContent !== text) node.textContent = text;
      node.setAttribute("aria-label", `${text} ${rule.id}`);
    },
  },
];

const eventWords = (detail) => Object.entries(detail).filter(([, value]) => value !== null && typeof value !== "object")
  .map(([name, value]) => `${words(name)} ${typeof value === "number" ? number(value) : value}`).join(", ");

const EVENTS = [
  { name: "When", read: (event) => moment(event.at) }, { name: "What", read: (event) => words(event.kind) },
  { name: "Rule", read: (event) => event.rule }, { name: "Why", read: (event) => eventWords(event.detail) },
];

export function showRules() {
  const rules = known ? [...known.fromFile.rules.map((rule) => ({ ...rule, file: true })), ...known.rules] : [];
  find("rules-waits").textContent = known?.waits ? `Nothing is decided now: ${known.waits}` : "";
  table(find("standing"), { columns: STANDING, rows: known?.standing ?? [], key: (row) => `${row.rule} ${row.holding}`, empty: rules.length ? "No position fits a rule" : "No rules are set" });
  table(find("rules"), { columns: RULES, rows: rules, key: (rule) => `${rule.file} ${rule.id}`, empty: "No rules are set" });
  table(find("rule-events"), { columns: EVENTS, rows: events, key: (event) => event.sequence, empty: "Nothing was decided yet" });
}

async function toggle(rule, pressed) {
  const on = !rule.enabled;
  const what = modeOf(rule) === "trade" ? "It closes positions by itself." : "It only says what it would do.";
  if (on && !(await confirmed("Switch this rule on?", `${rule.id}: ${matchWords(rule.match)}. ${what}`, "Switch it on")).agreed) return;
  const rules = known.rules.map((each) => (each.id === rule.id ? { ...each, enabled: on } : each));
  await act(pressed, async () => { known = await call("PUT", "rules", { body: { rules, mode: known.mode, version: known.version } }); }, on ? "Switched on" : "Switched off");
  showRules();
}

export function prepareRules(actor, allowed) { [act, may] = [actor, allowed]; }
