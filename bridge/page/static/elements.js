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

export function table(node, caption, columns, rows, empty) {
  if (rows.length === 0) {
    node.replaceChildren(element("tbody", {}, element("tr", {}, element("td", { className: "fine" }, empty))));
    return;
  }
  const head = element("tr", {}, ...columns.map(([name, , kind]) => element("th", { scope: "col", className: kind ?? "" }, name)));
  const body = rows.map((row) => element("tr", {}, ...columns.map(([, read, kind]) => element("td", { className: kind ?? "" }, cell(read(row))))));
  node.replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

const cell = (value) => (value instanceof Node ? value : String(value ?? ""));

export function toast(text) {
  const node = find("toast");
  node.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { node.textContent = ""; }, 6000);
}

// Asks before anything that a person would regret; answers {agreed, checked}.
export function confirmed(title, text, yes, option = "") {
  const dialog = find("confirm");
  find("confirm-title").textContent = title;
  find("confirm-text").textContent = text;
  find("confirm-yes").textContent = yes;
  find("confirm-option").hidden = !option;
  find("confirm-option").querySelector("span").textContent = option;
  find("confirm-check").checked = false;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve({ agreed: dialog.returnValue === "yes", checked: find("confirm-check").checked }), { once: true });
  });
}
