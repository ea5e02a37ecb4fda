/** One artifact on one accelerator at a time, and one computation after the other. */

import { Engine } from "./engine.js";
import { fit, toInput } from "./resize.js";

const WARM_UP = 2; // the first runs compile shaders and fill caches

export class Session {
  #last = Promise.resolve();
  #engine = null;
  #key = null;

  /** Do `work` once everything before it is done. */
  #inTurn(work) {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  /** The engine for an artifact, opened and warmed up, for the time of `use`; the one before it is closed. */
  with(artifact, accelerator, use) {
    return this.#inTurn(async () => {
      const key = `${artifact.manifest.sha256} ${accelerator}`;
      if (this.#key !== key) {
        this.#close();
        this.#engine = await open(artifact, accelerator);
        this.#key = key;
      }
      try {
        return await use(this.#engine);
      } catch (error) {
        this.#close(); // a device that was lost does not come back
        throw error;
      }
    });
  }

  close() {
    return this.#inTurn(() => this.#close());
  }

  #close() {
    this.#engine?.delete();
    this.#engine = this.#key = null;
  }
}

async function open({ manifest, file, reference }, accelerator) {
  const { precision, input, heads } = manifest;
  const outputs = heads.map(({ name }) => name);
  const engine = await Engine.open(file, { base: "litert/", accelerator, precision, shape: input.shape, outputs });
  try {
    const values = toInput(reference.image(0), input.range, true);
    for (let i = 0; i < WARM_UP; i++) await engine.run(values);
  } catch (error) {
    engine.delete();
    throw error;
  }
  return engine;
}

/**
 * Ask about a picture.
 * @returns {Promise<{picture: object, seen: object, scores: Float32Array, ms: number, wholeMs: number}>} `seen` is the crop,
 *   `scores` the values of all outputs, `ms` the time of run and read-back, `wholeMs` with pre-processing
 */
export async function classify(engine, manifest, picture) {
  const began = performance.now();
  const seen = fit(picture, manifest.input.resizing);
  const { output, ms } = await engine.run(toInput(seen.data, manifest.input.range));
  return { picture, seen, scores: output, ms, wholeMs: performance.now() - began };
}
