// The few DOM helpers of the page. Text only: nothing that came over the wire is ever parsed as markup.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("data-") || key.startsWith("aria-") || key === "scope" || key === "role") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);
  return node;
}

export function shape(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Facts are [term, text, tone?]; the list is only touched where it differs, so that a screen reader's place is kept.
export function facts(list, rows) {
  while (list.children.length > rows.length * 2) list.lastChild.remove();
  rows.forEach(([term, text, tone], index) => {
    let name = list.children[index * 2];
    if (!name) {
      name = list.appendChild(element("dt"));
      list.append(element("dd"));
    }
    const value = list.children[index * 2 + 1];
    if (name.textContent !== term) name.textContent = term;
    if (value.textContent !== text) value.textContent = text;
    value.dataset.tone = tone ?? "";
  });
}

// Rows are told apart by their key and touched only where they differ, so that the focus and a screen reader's place are
// kept. A column is {name, read, number?, tone?} with a text, or {name, make} with a node that is made once a row; `make`
// gets a function that gives the row as it is now. Roles are spelt out: on a phone the rows are shown as cards.
const shown = new WeakMap();

export function table(node, { columns, rows, key, empty, told = "" }) {
  node.setAttribute("role", "table");
  if (rows.length === 0) {
    shown.delete(node);
    node.replaceChildren(element("tbody", { role: "rowgroup" }, element("tr", { role: "row" }, element("td", { role: "cell", className: "fine" }, empty))));
    return;
  }
  let kept = shown.get(node);
  if (!kept) {
    const head = element("tr", { role: "row" }, ...columns.map(({ name, number }) => element("th", { scope: "col", role: "columnheader", className: number ? "number" : "" }, name)));
    kept = { body: element("tbody", { role: "rowgroup" }), rows: new Map() };
    const caption = told ? [element("caption", { className: "hidden" }, told)] : [];
    node.replaceChildren(...caption, element("thead", { role: "rowgroup" }, head), kept.body);
    shown.set(node, kept);
  }
  const now = new Map(rows.map((row, index) => [String(key(row, index)), row]));
  for (const [name, entry] of kept.rows) {
    if (now.has(name)) continue;
    entry.line.remove();
    kept.rows.delete(name);
  }
  let before = null;
  for (const [name, row] of now) {
    let entry = kept.rows.get(name);
    if (!entry) {
      entry = { row, line: element("tr", { role: "row" }) };
      const current = () => entry.row;
      for (const column of columns) {
        const cell = element("td", { role: "cell", className: column.number ? "number" : column.make ? "act" : "", "data-label": column.name });
        if (column.make) cell.append(column.make(current));
        entry.line.append(cell);
      }
      kept.rows.set(name, entry);
    }
    entry.row = row;
    columns.forEach((column, index) => fill(entry.line.children[index], column, row));
    const place = before ? before.nextSibling : kept.body.firstChild;
    if (place !== entry.line) kept.body.insertBefore(entry.line, place);
    before = entry.line;
  }
}

function fill(cell, column, row) {
  if (column.make) { column.update?.(cell.firstChild, row); return; }
  const text = String(column.read(row) ?? "");
  if (cell.textContent !== text) cell.textContent = text;
  cell.dataset.tone = column.tone?.(row) ?? "";
}

export function toast(text) {
  const node = find("toast");
  node.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { node.textContent = ""; }, 6000);
}

// Asks before anything that a person would regret; answers {agreed, checked}.
export async function confirmed(title, text, yes, option = "") {
  find("confirm-title").textContent = title;
  find("confirm-text").textContent = text;
  find("confirm-yes").textContent = yes;
  find("confirm-option").hidden = !option;
  find("confirm-option").querySelector("span").textContent = option;
  find("confirm-check").checked = false;
  const agreed = await asked(find("confirm"));
  return { agreed, checked: find("confirm-check").checked };
}

// Asks in a dialog of the page; true when its answer was "yes".
export function asked(dialog) {
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export function button(text, pressed, properties = {}) {
  const node = element("button", { type: "button", className: "quiet", ...properties }, text);
  node.addEventListener("click", () => pressed(node));
  return node;
}
