// From values to what a screen shows: the window of a grey picture, and the colours of a heat map.

const STEPS = 65536;

/**
 * The shade of each stored value.
 * @param {{low: number, high: number}} range values of the stored 0 and 65535, in the scan's units.
 * @param {{low: number, high: number}} window values of black and white.
 * @param {boolean} invert white first.
 */
export function shades(range, window, invert) {
  const table = new Uint8ClampedArray(STEPS);
  const step = (range.high - range.low) / (STEPS - 1);
  const width = Math.max(window.high - window.low, 1e-9);
  for (let i = 0; i < STEPS; i += 1) {
    const share = (range.low + i * step - window.low) / width;
    table[i] = 255 * (invert ? 1 - share : share);
  }
  return table;
}

/**
 * Draw a plane's values on a canvas of the plane's size.
 * @param {{data: Uint16Array|Uint8Array, width: number, height: number, colour: boolean}} plane
 * @param {Uint8ClampedArray} table of `shades`; of a colour plane for the values 0 to 255, spread over all steps.
 */
export function develop(plane, table, canvas) {
  if (canvas.width !== plane.width || canvas.height !== plane.height) {
    canvas.width = plane.width;
    canvas.height = plane.height;
  }
  const context = canvas.getContext("2d");
  const picture = context.createImageData(plane.width, plane.height);
  const out = picture.data;
  const { data } = plane;
  if (plane.colour) {
    for (let i = 0, j = 0; i < data.length; i += 3, j += 4) {
      out[j] = table[data[i] * 257];
      out[j + 1] = table[data[i + 1] * 257];
      out[j + 2] = table[data[i + 2] * 257];
      out[j + 3] = 255;
    }
  } else {
    const words = new Uint32Array(out.buffer);
    for (let i = 0; i < data.length; i += 1) {
      const shade = table[data[i]];
      words[i] = 0xff000000 | (shade << 16) | (shade << 8) | shade;
    }
  }
  context.putImageData(picture, 0, 0);
}

// Dark violet, red, orange, pale yellow: lightness grows all the way, so that it reads without colour vision too.
const STOPS = [
  [0, 12, 8, 38],
  [0.25, 92, 18, 110],
  [0.5, 188, 55, 84],
  [0.75, 249, 142, 9],
  [1, 252, 255, 164],
];

/** Colour of a heat from 0 to 1. */
export function heatColour(share) {
  let k = 1;
  while (k < STOPS.length - 1 && share > STOPS[k][0]) k += 1;
  const [from, to] = [STOPS[k - 1], STOPS[k]];
  const part = Math.min(1, Math.max(0, (share - from[0]) / (to[0] - from[0])));
  return [1, 2, 3].map((i) => Math.round(from[i] + part * (to[i] - from[i])));
}

/** A heat map as a picture: the fainter, the more transparent. */
export function heat(bytes, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const palette = Array.from({ length: 256 }, (_, i) => heatColour(i / 255));
  for (let i = 0; i < width * height; i += 1) {
    const [red, green, blue] = palette[bytes[i]];
    picture.data.set([red, green, blue, Math.min(255, 40 + bytes[i])], 4 * i);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}
