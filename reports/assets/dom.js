// Building the page from nodes. Text only ever becomes a text node or an attribute value:
// no string is parsed as markup anywhere (Trusted Types forbid it too).

const SVG = "http://www.w3.org/2000/svg";

// An element: el("td", { class: "num", on: { click: f } }, "text", node, [nodes])
function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [type, listener] of Object.entries(value)) node.addEventListener(type, listener);
    } else if (value === true) {
      node.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) {
      node.append(child instanceof Node ? child : String(child));
    }
  }
  return node;
}

// The templates of parts that are far from the window, by part (late.js).
const waiting = new Map();

function byId(id) {
  return document.getElementById(id) ?? inWaiting((content) => content.getElementById(id)).find(Boolean) ?? null;
}

// All nodes that match, in the document and in parts that wait.
function everywhere(selector) {
  const away = inWaiting((content) => [...content.querySelectorAll(selector)]);
  return [...document.querySelectorAll(selector), ...away.flat()];
}

const inWaiting = (look) => [...waiting.values()].map(({ template }) => look(template.content));

function refill(node, ...children) {
  node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null));
}

function option(value, label, selected) {
  return el("option", { value, selected: value === selected }, label);
}

// A labelled select; `choices` is a list of [value, label].
function field(label, choices, value, onChange, attributes = {}) {
  const select = el(
    "select",
    { ...attributes, on: { change: () => onChange(select.value) } },
    choices.map(([key, text]) => option(key, text, value)),
  );
  return el("label", { class: "field" }, el("span", {}, label), select);
}

function debounce(milliseconds, action) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
