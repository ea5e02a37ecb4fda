/** Elements in a line each, and the drawings that screens share. */

/** An element with properties, attributes and children; a child that is null is left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const DRAWINGS = {
  yes: "m5 12.5 4.5 4.5L19 7.5",
  no: "M6.5 6.5 17.5 17.5 M17.5 6.5 6.5 17.5",
  wait: "M12 7v5l3 2 M12 3.5a8.5 8.5 0 1 0 .01 0",
  photo: "M4 5.5h16a1.5 1.5 0 0 1 1.5 1.5v10a1.5 1.5 0 0 1-1.5 1.5H4A1.5 1.5 0 0 1 2.5 17V7A1.5 1.5 0 0 1 4 5.5Z m0 11 5-4.5 3.5 3L16 11l5 5",
  camera: "M4 7.5h3.2L9 5h6l1.8 2.5H20a1.5 1.5 0 0 1 1.5 1.5v8.5A1.5 1.5 0 0 1 20 19H4a1.5 1.5 0 0 1-1.5-1.5V9A1.5 1.5 0 0 1 4 7.5Z M12 9.4a3.4 3.4 0 1 0 .01 0",
};

/** A line drawing; it is for the eye alone, the words beside it say the same. */
export function drawing(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", DRAWINGS[name]);
  svg.append(path);
  return svg;
}

/** Numbers with their names. @param {[string, string][]} pairs of name and value */
export function numbers(pairs) {
  return make("dl", { className: "numbers" }, ...pairs.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** A button that may be pressed again once what it does is done. */
export function button(label, act, { main = false } = {}) {
  const element = make("button", { type: "button", className: main ? "button main" : "button" }, label);
  element.addEventListener("click", async () => {
    element.disabled = true;
    try {
      await act();
    } finally {
      element.disabled = false;
    }
  });
  return element;
}

/** Let the page draw what has changed, and take what was tapped. */
export function breathe() {
  return new Promise((resolve) => setTimeout(resolve));
}
