// Masks as they travel: a box and its bits, and what a canvas needs of them.

/** Bytes of a base64 text. */
export function bytesOf(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/**
 * A mask within its box.
 * @param {{box: number[], bits: string}|null} packed box x0 y0 x1 y1, end-exclusive; bits row by row, the first bit
 *   of a byte highest.
 * @returns {{x: number, y: number, width: number, height: number, data: Uint8Array}|null} null where nothing is drawn.
 */
export function unpack(packed) {
  if (!packed || !packed.box) return null;
  const [x0, y0, x1, y1] = packed.box;
  const width = x1 - x0;
  const height = y1 - y0;
  if (width <= 0 || height <= 0) return null;
  const bytes = bytesOf(packed.bits);
  if (bytes.length < Math.ceil((width * height) / 8))
    throw new Error("a mask came with fewer bits than its box has pixels");
  const data = new Uint8Array(width * height);
  for (let i = 0; i < data.length; i += 1) data[i] = (bytes[i >> 3] >> (7 - (i & 7))) & 1;
  return { x: x0, y: y0, width, height, data };
}

/** Whether a pixel of the plane belongs to a mask. */
export function within(mask, x, y) {
  if (!mask) return false;
  const column = Math.floor(x) - mask.x;
  const row = Math.floor(y) - mask.y;
  if (column < 0 || row < 0 || column >= mask.width || row >= mask.height) return false;
  return mask.data[row * mask.width + column] === 1;
}

/**
 * The border of a mask along the edges of its pixels, in pixels of the plane: sharp at any zoom.
 * Runs of edges are joined, so that a path has few segments.
 */
export function outline(mask) {
  const path = new Path2D();
  const { x, y, width, height, data } = mask;
  const at = (row, column) =>
    row >= 0 && column >= 0 && row < height && column < width ? data[row * width + column] : 0;
  for (let row = 0; row <= height; row += 1) {
    let start = -1;
    for (let column = 0; column <= width; column += 1) {
      const edge = column < width && at(row - 1, column) !== at(row, column);
      if (edge && start < 0) start = column;
      if (!edge && start >= 0) {
        path.moveTo(x + start, y + row);
        path.lineTo(x + column, y + row);
        start = -1;
      }
    }
  }
  for (let column = 0; column <= width; column += 1) {
    let start = -1;
    for (let row = 0; row <= height; row += 1) {
      const edge = row < height && at(row, column - 1) !== at(row, column);
      if (edge && start < 0) start = row;
      if (!edge && start >= 0) {
        path.moveTo(x + column, y + start);
        path.lineTo(x + column, y + row);
        start = -1;
      }
    }
  }
  return path;
}

/** A mask as a picture in one colour, of the size of its box. */
export function stamp(mask, colour) {
  const [red, green, blue] = rgbOf(colour);
  const canvas = document.createElement("canvas");
  canvas.width = mask.width;
  canvas.height = mask.height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(mask.width, mask.height);
  for (let i = 0; i < mask.data.length; i += 1) {
    if (mask.data[i]) picture.data.set([red, green, blue, 255], 4 * i);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** Red, green and blue of "#rrggbb". */
export function rgbOf(colour) {
  const value = /^#[0-9a-f]{6}$/i.test(colour) ? Number.parseInt(colour.slice(1), 16) : 0x35c4b5;
  return [value >> 16, (value >> 8) & 255, value & 255];
}
