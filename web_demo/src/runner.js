/** The app's engine without its screens: `mobilevit verify --runtime litert-web` opens this page, headless. */

import { Engine } from "./engine.js";
import { ArtifactError, oneLine } from "./errors.js";

async function serve() {
  const job = await (await fetch("job.json")).json();
  const file = new Uint8Array(await (await fetch("model")).arrayBuffer());
  const engine = await Engine.open(file, { base: "litert/", ...job });
  await send("ready", "");
  for (;;) {
    const next = await fetch("image");
    if (next.status === 204) continue; // none yet
    if (!next.ok) return; // it is over
    const image = new Float32Array(await next.arrayBuffer()); // the place of an entry, then values
    const { output } = await engine.run(image.subarray(1), image[0]);
    await send("scores", output);
  }
}

function send(path, body) {
  return fetch(path, { method: "POST", body });
}

serve().catch((error) => send(error instanceof ArtifactError ? "refused" : "failed", oneLine(error)));
