/** From a detector's answer to objects: a class, its share and a box in the picture. No two queries answer for one object. */

import { nearestEntry } from "./entries.js";
import { ArtifactError } from "./errors.js";
import { valuesOf } from "./manifest.js";
import { plan } from "./resize.js";
import { softmax } from "./scores.js";

export const LEAST_SHARE = 0.7; // from which an object is shown, unless the person asks for another one

/**
 * The objects that a detector finds, the surest first.
 * @param {Float32Array} answer all outputs of a file
 * @param {object} manifest of a detector, from `readManifest`
 * @param {{width: number, height: number}} picture the upright one, before it was resized
 * @param {number} least the share from which an object counts
 * @returns {{index: number, share: number, left: number, top: number, right: number, bottom: number}[]} edges are shares
 *   of the picture. Throws ArtifactError for an answer that is not finite.
 */
export function objectsOf(answer, manifest, picture, least) {
  const { classes, scores, boxes } = manifest.detector;
  if (!answer.every(Number.isFinite)) throw new ArtifactError("the file answers what is not a number: verify it");
  const toPicture = intoPicture(picture, manifest.entries[nearestEntry(manifest.entries, picture)].input.resizing);
  const objects = [];
  const [logits, places] = [valuesOf(answer, scores), valuesOf(answer, boxes)];
  for (let query = 0; query * classes < logits.length; query++) {
    const shares = softmax(logits.subarray(query * classes, (query + 1) * classes)).subarray(0, -1); // the last: no object
    const share = shares.reduce((a, b) => Math.max(a, b));
    if (share < least) continue;
    objects.push({ index: shares.indexOf(share), share, ...toPicture(places.subarray(4 * query, 4 * query + 4)) });
  }
  return objects.sort((a, b) => b.share - a.share);
}

/** The way back: from center, width and height as shares of what the file saw to edges as shares of the picture, at most. */
function intoPicture(picture, resizing) {
  const { window, width, height, left, top, cropWidth, cropHeight } = plan(picture, resizing);
  const x = (share) => clamp((window[0] + ((left + share * cropWidth) / width) * window[2]) / picture.width);
  const y = (share) => clamp((window[1] + ((top + share * cropHeight) / height) * window[3]) / picture.height);
  return ([middleX, middleY, w, h]) => ({
    left: x(middleX - w / 2),
    top: y(middleY - h / 2),
    right: x(middleX + w / 2),
    bottom: y(middleY + h / 2),
  });
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}
