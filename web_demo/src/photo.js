/** Photographs as upright RGB: what the browser decodes, laid over white. */

import { withoutProfile } from "./profile.js";

const TILE = 1024; // pixels a side: canvases of phones end at a few thousand
const MOST = 120e6; // pixels of a photograph; three bytes each

/** @param {Blob} file a picture's file @returns {Promise<import("./resize.js").Picture>} Throws Error in one line. */
export async function decodePhoto(file) {
  const picture = await open(file).catch(() => {
    const phones = /\.hei[cf]$/i.test(file.name) ? "; choose a JPEG" : "";
    throw new Error(`${file.name || "the file"} is not a picture that this browser reads${phones}`);
  });
  try {
    return pixelsOf(picture.source, picture.width, picture.height);
  } finally {
    picture.close();
  }
}

/** What a canvas draws upright, in the values of the file. */
async function open(file) {
  const blob = await withoutProfile(file);
  try {
    const source = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    return { source, width: source.width, height: source.height, close: () => source.close() };
  } catch {
    return openElement(blob); // Safari has no bitmaps larger than a canvas, and older ones lack these options
  }
}

/** An element, which every browser turns upright, and draws in parts however large it is. */
async function openElement(blob) {
  const source = new Image();
  source.src = URL.createObjectURL(blob);
  const close = () => URL.revokeObjectURL(source.src);
  try {
    await source.decode();
  } catch (error) {
    close();
    throw error;
  }
  return { source, width: source.naturalWidth, height: source.naturalHeight, close };
}

let context = null; // of one canvas for all pictures: Safari counts those that are gone, and gives no more of them

function tileContext() {
  if (!context) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = TILE;
    context = canvas.getContext("2d", { willReadFrequently: true });
    if (!context) throw new Error("this browser gives the page no canvas; close other pages");
    context.fillStyle = "white";
  }
  return context;
}

/** The pixels of what a canvas can draw: a bitmap, or a frame of a video. */
export function pixelsOf(source, width, height) {
  if (width * height > MOST) throw new Error(`the picture has ${Math.round((width * height) / 1e6)} megapixels; at most ${MOST / 1e6} fit`);
  const data = new Uint8Array(width * height * 3);
  const context = tileContext();
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      const [w, h] = [Math.min(TILE, width - left), Math.min(TILE, height - top)];
      context.fillRect(0, 0, w, h);
      context.drawImage(source, left, top, w, h, 0, 0, w, h);
      const tile = context.getImageData(0, 0, w, h).data;
      for (let y = 0, from = 0; y < h; y++) {
        for (let to = ((top + y) * width + left) * 3, end = to + 3 * w; to < end; to += 3, from += 4) {
          data[to] = tile[from];
          data[to + 1] = tile[from + 1];
          data[to + 2] = tile[from + 2];
        }
      }
    }
  }
  return { width, height, data };
}

/** Draw RGB pixels. @param {HTMLCanvasElement} canvas */
export function draw(canvas, { width, height, data }) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) {
    image.data.set(data.subarray(3 * pixel, 3 * pixel + 3), 4 * pixel);
    image.data[4 * pixel + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
