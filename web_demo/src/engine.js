/** LiteRT.js: a .tflite file on WASM (XNNPACK) or on WebGPU, without a silent change from one to the other. */

import { ArtifactError, DeviceError, oneLine } from "./errors.js";

export const ACCELERATORS = ["wasm", "webgpu"];
/** Of which files WebGPU does not take the whole graph, by precision, as in `mobilevit verify`. */
const WEBGPU_REFUSES = {
  int8: "the GPU takes no operators in integers whole",
  "int8-weight": "the GPU does not unpack weights in 8 bits",
  "int4-weight": "the GPU does not unpack weights in 4 bits",
};
const PREFIX = /^(RuntimeError: )?(Aborted\()?|\. Build with -sASSERTIONS.*$/g;

let loading = null; // one LiteRT.js in a page

/**
 * LiteRT.js from the folder `base`, such as "litert/": {api, version, threads}.
 * Threads need a page that is isolated from others, which its headers ask for.
 */
export function loadLibrary(base) {
  loading ??= load(new URL(base, document.baseURI)).catch((error) => {
    loading = null;
    throw new DeviceError(`LiteRT.js does not load: ${oneLine(error)}`);
  });
  return loading;
}

async function load(base) {
  const described = await fetch(new URL("core/package.json", base));
  if (!described.ok) throw new Error(`the server answers ${described.status} for ${described.url}`);
  const { version } = await described.json();
  const api = await import(new URL("core/index.js", base).href);
  const wasm = new URL("wasm/", base).href;
  if (globalThis.crossOriginIsolated === true && (await api.supportsFeature("relaxedSimd"))) {
    try {
      await api.loadLiteRt(wasm, { threads: true });
      return watch({ api, version, threads: true });
    } catch {
      // a browser may refuse the shared memory; one thread needs none
    }
  }
  await api.loadLiteRt(wasm, { threads: false });
  return watch({ api, version, threads: false });
}

/** A phone takes the GPU away from pages that it puts aside; what LiteRT.js holds of it is then of no use. */
function watch(library) {
  library.api.getWebGpuDevice()?.lost.then(() => (library.lost = true));
  return library;
}

/** After an abort within WASM nothing of that instance can be trusted. */
function discard(api) {
  loading = null;
  try {
    api.unloadLiteRt();
  } catch {
    // what has aborted may not even end; the page forgets it
  }
}

/** Why this browser has no WebGPU for the page, in a few words; null where it has. */
export async function missingWebGPU() {
  if (!globalThis.isSecureContext) return "WebGPU needs https or localhost";
  if (!navigator.gpu) return "this browser has no WebGPU";
  try {
    return (await navigator.gpu.requestAdapter()) ? null : "this browser gives pages no GPU";
  } catch (error) {
    return `WebGPU fails: ${oneLine(error)}`;
  }
}

/** Why WebGPU is not for files of this precision; null where it is. */
export function webGPURefuses(precision) {
  return Object.hasOwn(WEBGPU_REFUSES, precision) ? `not for ${precision}: ${WEBGPU_REFUSES[precision]}` : null;
}

/** The arithmetic to ask WebGPU for: float16 for files of float16 weights where the GPU has it, else float32. */
export function gpuPrecision(filePrecision, features) {
  return filePrecision === "fp16" && features.has("shader-f16") ? "fp16" : "fp32";
}

/** A compiled file. `run` takes the input's values and returns all outputs', with the time of run and read-back. */
export class Engine {
  /**
   * @param {Uint8Array} file the .tflite file
   * @param {{base: string, accelerator: string, precision: string, entries: {name: string | null, shape: number[]}[],
   *   outputs: string[]}} options `precision` is that of the file; `entries` are its signatures, with the shape of their input
   *   (null: whatever the only one is called); `outputs` in which order answers hold the outputs of each
   * Throws ArtifactError for a file that the accelerator does not take whole, DeviceError for a missing accelerator.
   */
  static async open(file, { base, accelerator, precision, entries, outputs }) {
    if (accelerator === "webgpu") {
      const missing = await missingWebGPU();
      if (missing) throw new DeviceError(missing);
    }
    let library = await loadLibrary(base);
    if (accelerator === "webgpu" && library.lost) {
      discard(library.api);
      library = await loadLibrary(base);
    }
    const device = library.api.getWebGpuDevice();
    if (accelerator === "webgpu" && !device) throw new DeviceError("WebGPU refuses to open a device");
    const gpuOptions = accelerator === "webgpu" ? { precision: gpuPrecision(precision, device.features) } : {};
    let model;
    try {
      model = await library.api.loadAndCompile(file, { accelerator, gpuOptions });
    } catch (error) {
      discard(library.api);
      const why = oneLine(error).replace(PREFIX, "");
      throw new ArtifactError(`LiteRT.js does not take the file on ${accelerator}: ${why || "it aborts"}`);
    }
    const engine = new Engine(library, model, accelerator, gpuOptions.precision ?? null, entries);
    try {
      engine.#check(outputs);
    } catch (error) {
      engine.delete();
      throw error;
    }
    return engine;
  }

  #library;
  #model;
  #entries; // {name, shape, order}: where the outputs of an answer are among the file's

  constructor(library, model, accelerator, precision, entries) {
    this.#library = library;
    this.#model = model;
    this.#entries = entries.map((entry) => ({ ...entry, order: [0] }));
    this.accelerator = accelerator;
    this.precision = precision; // asked of the accelerator; null where nothing was asked
    this.version = library.version;
    this.threads = library.threads && accelerator === "wasm";
    this.fullyAccelerated = accelerator === "webgpu" ? true : null; // `open` refuses any other
  }

  #check(names) {
    // LiteRT.js itself compiles for WASM what WebGPU does not take whole, and only warns.
    const { accelerator } = this.#model.options;
    if (accelerator !== this.accelerator || (accelerator === "webgpu" && !this.#model.isFullyAccelerated)) {
      throw new ArtifactError(`the file does not run wholly on ${this.accelerator}: some operators stay on the CPU`);
    }
    for (const entry of this.#entries) this.#checkEntry(entry, names);
  }

  #checkEntry(entry, names) {
    const signature = this.#signature(entry);
    if (!signature) throw new ArtifactError(`the file has no signature ${entry.name}`);
    const inputs = signature.getInputDetails();
    const found = inputs.map(({ dtype, shape }) => `${dtype} [${[...shape].join(", ")}]`).join("; ");
    const wanted = `float32 [${entry.shape.join(", ")}]`;
    if (found !== wanted) throw new ArtifactError(`the file takes ${found}, not ${wanted}`);
    const outputs = signature.getOutputDetails();
    const types = outputs.map(({ dtype }) => dtype);
    if (outputs.length !== names.length || types.some((dtype) => dtype !== "float32")) {
      throw new ArtifactError(`the file has ${outputs.length} outputs of ${types.join(", ")}, not ${names.length} of float32`);
    }
    if (names.length === 1) return; // whatever it is called
    entry.order = names.map((name) => outputs.findIndex((output) => output.name === name));
    if (entry.order.includes(-1)) {
      throw new ArtifactError(`the file has the outputs ${outputs.map(({ name }) => name).join(", ")}, not ${names.join(", ")}`);
    }
  }

  /** What runs an entry: it has the methods of a model, of which the first signature is the default. */
  #signature({ name }) {
    if (name === null) return this.#model;
    return Object.hasOwn(this.#model.signatures, name) ? this.#model.signatures[name] : null;
  }

  /**
   * @param {Float32Array} values of the input, in its layout
   * @param {number} place of the entry that takes an input of this size
   * @returns {Promise<{output: Float32Array, ms: number}>} `output` holds all outputs, one after the other
   */
  async run(values, place = 0) {
    const entry = this.#entries[place];
    const { Tensor } = this.#library.api;
    const held = [];
    const keep = (tensor) => (held.push(tensor), tensor);
    try {
      let input = keep(new Tensor(values, entry.shape));
      if (this.accelerator === "webgpu") input = keep(await input.moveTo("webgpu"));
      const began = performance.now();
      const results = (await this.#signature(entry).run(input)).map(keep);
      const parts = [];
      for (const output of entry.order) {
        const read = this.accelerator === "webgpu" ? keep(await results[output].moveTo("wasm")) : results[output];
        parts.push(read.toTypedArray());
      }
      const output = joined(parts);
      return { output, ms: performance.now() - began };
    } catch (error) {
      throw new DeviceError(`${this.accelerator} fails while it computes: ${oneLine(error)}`);
    } finally {
      for (const tensor of held) tensor.delete(); // a tensor that has moved is deleted already, which does no harm
    }
  }

  delete() {
    this.#model?.delete();
    this.#model = null;
  }
}

/** A copy of all values, one array after the other. */
function joined(arrays) {
  const whole = new Float32Array(arrays.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const array of arrays) {
    whole.set(array, at);
    at += array.length;
  }
  return whole;
}
