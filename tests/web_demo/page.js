/** A page for Node.js, as far as the screens use one: elements with children, listeners and a canvas. */

class Element extends EventTarget {
  children = [];
  hidden = false;
  disabled = false;
  className = "";
  style = { setProperty() {} };
  #text = "";

  constructor(tag) {
    super();
    this.tag = tag;
    if (tag === "video") Object.assign(this, { readyState: 4, videoWidth: 4, videoHeight: 2, srcObject: null, play: async () => {} });
    if (tag === "canvas") page.canvases.push(this);
  }

  append(...nodes) {
    this.children.push(...nodes);
  }
  appendChild(node) {
    this.children.push(node);
    return node;
  }
  replaceChildren(...nodes) {
    this.#text = "";
    this.children = nodes;
  }
  get firstChild() {
    return this.children[0];
  }
  get lastChild() {
    return this.children.at(-1);
  }
  get textContent() {
    return this.#text + this.children.map((child) => child.textContent ?? child).join(" ");
  }
  set textContent(text) {
    this.children = [];
    this.#text = text;
  }
  setAttribute(name, value) {
    this[name] = value;
  }
  querySelector() {
    return null;
  }
  scrollIntoView() {}
  getBoundingClientRect() {
    return { left: 0, right: 0 };
  }
  getContext() {
    return page.context(this);
  }

  /** All elements below that are shown. */
  *shown() {
    for (const child of this.children) {
      if (!(child instanceof Element) || child.hidden) continue;
      yield child;
      yield* child.shown();
    }
  }
  /** Press the button, of those that are shown, with these words. */
  press(words) {
    const found = [...this.shown()].find(({ tag, textContent }) => (tag === "button" || tag === "a") && textContent.includes(words));
    if (!found) throw new Error(`no ${words} in: ${this.textContent}`);
    found.dispatchEvent(new Event("click"));
  }
}

export const page = {
  canvases: [],
  /** What a canvas draws with; pictures are as wide as they are, and gray. */
  context: () => ({
    fillRect() {},
    drawImage() {},
    putImageData() {},
    getImageData: (left, top, width, height) => ({ data: new Uint8ClampedArray(4 * width * height).fill(128) }),
  }),
  element: (tag = "div") => new Element(tag),
};

const document = Object.assign(new EventTarget(), {
  hidden: false,
  baseURI: "http://phone.test/",
  createElement: (tag) => new Element(tag),
  createElementNS: (_, tag) => new Element(tag),
});
const listeners = new EventTarget();
const globals = {
  document,
  isSecureContext: true,
  addEventListener: listeners.addEventListener.bind(listeners),
  dispatchEvent: listeners.dispatchEvent.bind(listeners),
  requestAnimationFrame: setImmediate,
  HTMLMediaElement: { HAVE_CURRENT_DATA: 2 },
  ImageData: class {
    constructor(width, height) {
      this.data = new Uint8ClampedArray(4 * width * height);
    }
  },
  navigator: { mediaDevices: {}, userAgent: "" },
};
for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });

// Hashes are computed in a thread: on a busy machine that takes longer than any number of turns of the event loop.
const hashes = new Set();
const digest = crypto.subtle.digest.bind(crypto.subtle);
crypto.subtle.digest = (...what) => {
  const hash = digest(...what);
  hashes.add(hash);
  return hash.finally(() => hashes.delete(hash));
};

/** Let everything run that waits for nothing from outside but hashes. */
export async function settle() {
  do {
    await Promise.allSettled(hashes);
    for (let i = 0; i < 20; i++) await new Promise(setImmediate);
  } while (hashes.size);
}

/** A promise and what ends it. */
export function later() {
  let resolve;
  let reject;
  const promise = new Promise((...ends) => ([resolve, reject] = ends));
  return { promise, resolve, reject };
}
