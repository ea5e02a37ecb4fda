/**
 * Takes out of a photograph's file what says how its values look: training reads the values as they are, and Safari, which
 * converts them without being asked, would give others for each photograph in Display P3, an iPhone's usual one.
 */

const ICC = [...new TextEncoder().encode("ICC_PROFILE\0")];
const COLORS = new Set(["cHRM", "cICP", "cLLI", "gAMA", "iCCP", "mDCV", "sRGB"]); // of PNG

/** @param {Blob} blob of any format @returns {Promise<Blob>} of the same picture; JPEG and PNG lose their profile */
export async function withoutProfile(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const parts = [];
  let kept = 0; // up to here all is taken over or left out
  for (const [from, to] of profiles(bytes)) {
    parts.push(bytes.subarray(kept, from));
    kept = to;
  }
  return kept ? new Blob([...parts, bytes.subarray(kept)], { type: blob.type }) : blob;
}

function profiles(bytes) {
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return profilesOfJpeg(bytes);
  if (bytes[0] === 0x89 && text(bytes, 1) === "PNG\r") return profilesOfPng(bytes);
  return [];
}

/** Segments: 0xff, a marker, two bytes with the length from themselves on. */
function* profilesOfJpeg(bytes) {
  for (let at = 2, end; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; at = end) {
    end = bytes[at + 1] === 0xff ? at + 1 : at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    if (bytes[at + 1] === 0xe2 && ICC.every((byte, index) => bytes[at + 4 + index] === byte)) yield [at, end];
  }
}

/** Chunks: four bytes with the length of the content, four with the type, the content, four with a checksum. */
function* profilesOfPng(bytes) {
  const view = new DataView(bytes.buffer);
  for (let at = 8, end; at + 12 <= bytes.length && text(bytes, at + 4) !== "IDAT"; at = end) {
    end = at + 12 + view.getUint32(at);
    if (COLORS.has(text(bytes, at + 4))) yield [at, end];
  }
}

function text(bytes, at) {
  return String.fromCharCode(...bytes.subarray(at, at + 4));
}
