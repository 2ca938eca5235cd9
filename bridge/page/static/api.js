// Calls to the bridge. The key travels in a header, never in an address.

const NAME = "gangway-key";

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the bridge answered ${status}`);
    this.status = status;
    this.code = body.code ?? "";
    this.nextStep = body.nextStep ?? "";
  }

  get sentence() {
    return this.nextStep ? `${this.message}. ${this.nextStep}` : this.message;
  }
}

let inUse = null;

export const key = {
  kept: () => sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME),
  use: (value) => { inUse = value; },
  keep: (remember) => (remember ? localStorage : sessionStorage).setItem(NAME, inUse),
  forget: () => { inUse = null; sessionStorage.removeItem(NAME); localStorage.removeItem(NAME); },
};

async function ask(method, path, body, headers, seconds = 20) {
  const sent = { ...headers, "X-API-KEY": inUse ?? "" };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  return fetch(path, {
    method,
    headers: sent,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal: AbortSignal.timeout(seconds * 1000),
  });
}

let changes = 0; // calls that may have changed something, and have ended

export async function call(method, path, { body, headers = {}, seconds } = {}) {
  let answer;
  let text;
  try {
    answer = await ask(method, path, body, headers, seconds);
    text = await answer.text();
  } finally {
    if (method !== "GET") changes += 1;
  }
  const content = parsed(text);
  if (!answer.ok) throw new Problem(answer.status, content ?? {});
  return content;
}

function parsed(text) {
  try { return text ? JSON.parse(text) : null; } catch { return { detail: text.slice(0, 200) }; }
}

// Every page of a list, as far as `most` rows; `more` says that there are others.
export async function pages(path, name, most = 5000) {
  const rows = [];
  let cursor = "";
  do {
    const answer = await call("GET", cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path);
    rows.push(...answer[name]);
    cursor = answer.nextCursor ?? "";
  } while (cursor && rows.length < most);
  return { rows, more: cursor !== "" };
}

// A part of the page that this key may not read, or this bridge does not have, stays empty instead of failing the rest.
export async function permitted(asked) {
  try {
    return await asked;
  } catch (problem) {
    if (problem instanceof Problem && [403, 404].includes(problem.status)) return null;
    throw problem;
  }
}

export const optional = (path) => permitted(call("GET", path));

// Answers come in any order. One that a newer reading overtook is dropped, and one that was asked for before a change
// ended may not know of it: it is asked for again. Otherwise a button would say again what it said before it was pressed.
// The function that is given back answers undefined for what was dropped.
export function reader(read) {
  let asked = 0;
  let taken = 0;
  const latest = async (...about) => {
    for (;;) {
      const [turn, before] = [++asked, changes];
      const answer = await read(...about);
      if (turn < taken) return undefined;
      if (before !== changes) continue;
      taken = turn;
      return answer;
    }
  };
  latest.overtake = () => { taken = ++asked; }; // what is under way is older than what is known by now
  return latest;
}

// Saves a list, all of its pages, as a file of the reader's.
export async function download(path, name) {
  const parts = [];
  let cursor = "";
  do {
    const answer = await ask("GET", cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path, undefined, {});
    const text = await answer.text();
    if (!answer.ok) throw new Problem(answer.status, parsed(text) ?? {});
    parts.push(parts.length ? text.slice(text.indexOf("\r\n") + 2) : text); // each page has the heads of the columns
    cursor = answer.headers.get("X-Next-Cursor") ?? "";
  } while (cursor);
  const address = URL.createObjectURL(new Blob(parts, { type: "text/csv" }));
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}
