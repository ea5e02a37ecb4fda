/** One artifact on one accelerator at a time, and one computation after the other. */

import { Engine } from "./engine.js";
import { nearestEntry } from "./entries.js";
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
  const { precision, heads } = manifest;
  const outputs = heads.map(({ name }) => name);
  const entries = manifest.entries.map(({ name, input }) => ({ name, shape: input.shape }));
  const engine = await Engine.open(file, { base: "litert/", accelerator, precision, entries, outputs });
  try {
    for (const [place, { input }] of manifest.entries.entries()) {
      const values = toInput(reference.image(reference.first(place)), input.range, true);
      for (let i = 0; i < WARM_UP; i++) await engine.run(values, place);
    }
  } catch (error) {
    engine.delete();
    throw error;
  }
  return engine;
}

/**
 * Ask about a picture, of the entry at `place`: without, of the one that it takes.
 * @returns {Promise<{picture: object, seen: object, scores: Float32Array, ms: number, wholeMs: number}>} `seen` is the crop,
 *   `scores` the values of all outputs, `ms` the time of run and read-back, `wholeMs` with pre-processing
 */
export async function classify(engine, manifest, picture, place = nearestEntry(manifest.entries, picture)) {
  const began = performance.now();
  const { resizing, range } = manifest.entries[place].input;
  const seen = fit(picture, resizing);
  const { output, ms } = await engine.run(toInput(seen.data, range), place);
  return { picture, seen, scores: output, ms, wholeMs: performance.now() - began };
}
