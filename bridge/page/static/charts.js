// Two small pictures: what the connection did in the last 24 hours, and how fast the gateway answers.

import { shape } from "./elements.js";
import { clock, span, words } from "./format.js";

const DAY = 86_400_000;

const TONES = {
  ready: "up", halted: "up",
  "waiting-2fa": "person", "session-conflict": "person",
  "planned-restart": "planned",
  unknown: "unknown", stopped: "unknown",
};

export const tone = (state) => TONES[state] ?? "lost";

// Segments are {state, from, to} in milliseconds, ascending; what no event covers is "unknown".
export function segments(events, now) {
  const start = now - DAY;
  const known = events.filter((event) => event.state && event.at <= now).sort((a, b) => a.at - b.at);
  const result = [];
  let state = "unknown";
  let from = start;
  for (const event of known) {
    const at = Math.max(event.at, start);
    if (at > from && event.state !== state) {
      result.push({ state, from, to: at });
      from = at;
    }
    state = event.state;
  }
  result.push({ state, from, to: now });
  return result;
}

export function timeline(node, parts, now) {
  const start = now - DAY;
  const x = (at) => ((at - start) / DAY) * 960;
  const bars = parts.map((part) => {
    const bar = shape("rect", { class: tone(part.state), x: x(part.from), y: 0, width: Math.max(1.5, x(part.to) - x(part.from)), height: 44 });
    bar.append(shape("title", {}, `${words(part.state)}, ${clock(part.from)} to ${clock(part.to)}`));
    return bar;
  });
  const marks = [0, 6, 12, 18, 24].map((hour) => {
    const label = shape("text", { x: (hour / 24) * 960, y: 62, "text-anchor": hour === 0 ? "start" : hour === 24 ? "end" : "middle" });
    label.textContent = hour === 24 ? "now" : `${24 - hour} h ago`;
    return label;
  });
  const total = (kind) => parts.filter((part) => tone(part.state) === kind).reduce((sum, part) => sum + part.to - part.from, 0) / 1000;
  const told = `In the last 24 hours: up ${span(total("up"))}, lost ${span(total("lost"))}, waiting for a person ${span(total("person"))}, no record ${span(total("unknown"))}.`;
  const picture = shape("svg", { viewBox: "0 0 960 70", role: "img", "aria-label": told }, ...bars, ...marks);
  node.replaceChildren(picture);
}

export function sparkline(node, values) {
  const height = 48;
  const top = Math.max(10, ...values);
  const x = (index) => (values.length < 2 ? 240 : (index / (values.length - 1)) * 470 + 5);
  const y = (value) => height - (value / top) * (height - 8) - 2;
  const line = shape("polyline", { points: values.map((value, index) => `${x(index)},${y(value)}`).join(" ") });
  const last = values.at(-1);
  const told = values.length ? `Heartbeat answers, newest ${last.toFixed(1)} ms, slowest ${Math.max(...values).toFixed(1)} ms of ${values.length}.` : "No heartbeat yet.";
  const children = values.length ? [line, shape("circle", { cx: x(values.length - 1), cy: y(last), r: 4 })] : [];
  const label = shape("text", { x: 0, y: 62 });
  label.textContent = values.length ? `slowest ${top === 10 ? Math.max(...values).toFixed(1) : top.toFixed(1)} ms` : "no heartbeat yet";
  node.replaceChildren(shape("svg", { viewBox: "0 0 480 66", role: "img", "aria-label": told }, ...children, label));
}
