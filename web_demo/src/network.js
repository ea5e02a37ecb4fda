/** What the page asks of its server; all of it below the page's own address. */

import { ArtifactError, NetworkError, oneLine } from "./errors.js";
import { readManifest } from "./manifest.js";
import { readReference } from "./safetensors.js";
import { sha256 } from "./sha256.js";

const MAX_TEXT = 16 << 20;
const MAX_REFERENCE = 512 << 20;

/** @returns {Promise<Uint8Array>} the body, of at most `most` bytes. Throws NetworkError and ArtifactError. */
export async function getBytes(path, most, onPart = () => {}) {
  const name = decodeURIComponent(path.split("/").at(-1));
  let answer;
  const parts = [];
  let size = 0;
  try {
    answer = await fetch(path);
    if (answer.status >= 500) throw new NetworkError(`${name} does not arrive: the server answers ${answer.status}`);
    if (!answer.ok) throw new ArtifactError(`${name} is not on the server (${answer.status})`);
    const reader = answer.body.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      parts.push(next.value);
      size += next.value.length;
      if (size > most) throw new ArtifactError(`${name} is larger than the ${most} bytes that it should have`);
      onPart(size);
    }
  } catch (error) {
    if (error instanceof ArtifactError || error instanceof NetworkError) throw error;
    throw new NetworkError(`${name} does not arrive: the connection to the server is lost`);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export async function getText(path) {
  return new TextDecoder().decode(await getBytes(path, MAX_TEXT));
}

/**
 * An artifact by its name: manifest, file and reference vectors, each checked.
 * @returns {Promise<{name: string, manifest: object, file: Uint8Array, reference: object, referenceSha256: string}>}
 */
export async function loadArtifact(name, onPart) {
  const folder = `artifacts/${encodeURIComponent(name)}`;
  const manifest = readManifest(await getText(`${folder}/manifest.json`));
  const file = await getBytes(`${folder}/${encodeURIComponent(manifest.file)}`, manifest.bytes, (size) => onPart(size / manifest.bytes));
  if (file.length !== manifest.bytes) {
    throw new ArtifactError(`${manifest.file} is cut short: ${file.length} of ${manifest.bytes} bytes`);
  }
  if ((await sha256(file)) !== manifest.sha256) {
    throw new ArtifactError(`${manifest.file} is damaged: its SHA-256 is not that of its manifest`);
  }
  const vectors = await getBytes(`${folder}/reference.safetensors`, MAX_REFERENCE);
  const { entries, heads, precision } = manifest;
  const reference = readReference(vectors.buffer, { sizes: entries, heads, integers: precision.startsWith("int") });
  return { name, manifest, file, reference, referenceSha256: await sha256(vectors) };
}

/**
 * Hand a report to the waiting command.
 * @returns {Promise<{passed: boolean, verdicts: object[]}>} Throws ArtifactError where the command refuses it, and
 *   NetworkError where trying again may help.
 */
export async function sendReport(path, report) {
  let answer;
  let body;
  try {
    answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: report });
    body = await answer.json();
  } catch {
    if (answer && !answer.ok) throw new NetworkError(`the command does not take the report (${answer.status})`);
    throw new NetworkError("the connection to the command is lost");
  }
  if (answer.ok && typeof body?.passed === "boolean" && Array.isArray(body.verdicts)) return body;
  const why = typeof body?.error === "string" ? oneLine(body.error) : `it answers ${answer.status}`;
  if (answer.status >= 500 || answer.status === 429) throw new NetworkError(`the command does not take the report: ${why}`);
  throw new ArtifactError(`the command refuses the report: ${why}`);
}
