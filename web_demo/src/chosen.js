/** The model that is chosen: one at a time; what needs it waits while it loads. */

export class Chosen {
  /** The loaded artifact; null while one loads, and where it did not load. */
  artifact = null;
  #load;
  #loading = null;

  /** @param {(name: string, onPart: (share: number) => void) => Promise<object>} load an artifact by its name */
  constructor(load) {
    this.#load = load;
  }

  /**
   * Load an artifact instead of the one before.
   * @returns {Promise<boolean>} false where another one was chosen meanwhile, however this one ended. Throws as `load`.
   */
  async choose(name, onPart) {
    this.artifact = null;
    const mine = this.#load(name, (share) => mine === this.#loading && onPart(share)).then((artifact) => {
      if (mine === this.#loading) this.artifact = artifact;
    });
    this.#loading = mine;
    try {
      await mine;
    } catch (error) {
      if (mine === this.#loading) throw error;
    }
    return mine === this.#loading;
  }

  /** The artifact, once none loads any more; null where the last one did not load. */
  async settled() {
    let waited;
    do {
      waited = this.#loading;
      await waited?.catch(() => {});
    } while (waited !== this.#loading);
    return this.artifact;
  }
}
