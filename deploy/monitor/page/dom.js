// Elements without markup in strings: what a run is called is never read as HTML.

export function h(tag, props = {}, ...children) {
  const element = tag.startsWith("svg:")
    ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4))
    : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name in element && !tag.startsWith("svg:") && name !== "list" && typeof value !== "string") element[name] = value;
    else element.setAttribute(name === "className" ? "class" : name, value === true ? "" : value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
}

export function refill(element, ...children) {
  // News arrive while somebody uses the keyboard: the control in this place keeps the focus.
  const controls = () => [...element.querySelectorAll("button, input, select")];
  const place = controls().indexOf(document.activeElement);
  fill(element, ...children);
  if (place >= 0) controls()[place]?.focus();
}

export function segmented(label, options, value, choose) {
  return h("div", { class: "segmented", role: "radiogroup", "aria-label": label },
    h("span", { class: "legend", "aria-hidden": "true" }, label),
    options.map(([key, text, title]) => h("button", {
      type: "button", role: "radio", "aria-checked": String(key === value), title, tabindex: key === value ? "0" : "-1",
      onclick: () => choose(key),
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const next = options[(options.findIndex((one) => one[0] === value) + step + options.length) % options.length];
        choose(next[0], true);
      },
    }, text)));
}

export function toggle(label, on, choose, title) {
  return h("button", { type: "button", class: "toggle", "aria-pressed": String(on), title, onclick: () => choose(!on) }, label);
}

export function toast(text, bad = false) {
  const note = h("p", { class: bad ? "toast bad" : "toast" }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), bad ? 9000 : 4000);
}

export function ask(title, ...content) {
  const dialog = document.getElementById("dialog");
  dialog.replaceChildren(
    h("header", {}, h("h2", { id: "dialog-title" }, title),
      h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    ...content);
  if (!dialog.open) dialog.showModal();
  return dialog;
}
