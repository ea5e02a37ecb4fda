/** Every error that a person can meet, as one line: what is wrong, where, and what to do. */

/** The artifact is at fault: damaged, foreign, or not for this runtime. */
export class ArtifactError extends Error {}

/** The device or the browser lacks something, or refuses. */
export class DeviceError extends Error {}

/** The network or the other end failed; trying again may help. */
export class NetworkError extends Error {}

/** The message of anything that was thrown, on one line. */
export function oneLine(error) {
  const text = error instanceof Error ? error.message || error.name : String(error);
  return text.replace(/\s+/g, " ").trim().slice(0, 500) || "unknown error";
}
