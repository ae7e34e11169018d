// Planes and masks, fetched once and kept within bounds.

import { bytesOf, outline, stamp, unpack } from "../core/bits.js";
import { heat } from "../core/tones.js";
import * as api from "./api.js";

const MOST_BYTES = 256 * 2 ** 20;
const MOST_LAYERS = 600;

const planes = new Map();
const sizes = new Map();
let bytes = 0;
const layers = new Map();

function touch(map, key) {
  const value = map.get(key);
  if (value !== undefined) {
    map.delete(key);
    map.set(key, value);
  }
  return value;
}

/** A plane's values; the least recently seen are forgotten first. */
export async function planeOf(scan, axis, k) {
  const key = `${scan.id}/${axis}/${k}`;
  const known = touch(planes, key);
  if (known) return known;
  const asked = api.plane(scan, axis, k);
  planes.set(key, asked);
  try {
    const plane = await asked;
    sizes.set(key, plane.data.byteLength);
    bytes += plane.data.byteLength;
    for (const old of [...planes.keys()]) {
      if (bytes <= MOST_BYTES || planes.size < 8) break;
      planes.delete(old);
      bytes -= sizes.get(old) ?? 0;
      sizes.delete(old);
    }
    return plane;
  } catch (error) {
    planes.delete(key);
    throw error;
  }
}

const keyOf = (scan, target, axis, k) => `${scan}/${target}/${axis}/${k}`;

/** What is drawn of a target in a plane: mask, its outline and colour, prompts, and what else was asked for. */
export async function layersOf(scan, target, axis, k, wanted) {
  const key = keyOf(scan.id, target.id, axis, k);
  const known = touch(layers, key);
  if (known && wanted.every((name) => known.has.has(name))) return dress(known, target.colour);
  const born = epoch;
  const missing = wanted.filter((name) => !known?.has.has(name));
  const reply = await api.get(
    `/scans/${scan.id}/targets/${target.id}/planes/${encodeURIComponent(axis)}/${k}?layers=${missing.join(",")}`,
  );
  // What was here stays: an edit changes mask and prompts, and leaves what the models saw.
  const made = {
    ...NOTHING,
    ...known,
    has: new Set([...(known?.has ?? []), ...missing]),
    ...(missing.includes("mask") ? { mask: unpack(reply.mask), stamp: null, path: null } : {}),
    ...(missing.includes("prompts") ? promptsOf(reply) : {}),
    ...(missing.includes("saliency") ? { heat: heatOf(reply.saliency) } : {}),
    ...(missing.includes("region") ? { region: unpack(reply.region), border: null } : {}),
  };
  // An edit answered meanwhile knows better.
  if (born === epoch) {
    layers.set(key, made);
    if (layers.size > MOST_LAYERS) layers.delete(layers.keys().next().value);
  }
  return dress(made, target.colour);
}

const NOTHING = { mask: null, region: null, border: null, heat: null, boxes: [], points: [], candidates: 0 };

const promptsOf = ({ boxes, points, candidates }) => ({
  boxes: boxes ?? [],
  points: points ?? [],
  candidates: candidates ?? 0,
});

/** What is known of a target in a plane now; undefined where it has to be fetched. */
export function knownLayers(scan, target, axis, k, wanted) {
  const known = touch(layers, keyOf(scan.id, target.id, axis, k));
  return known && wanted.every((name) => known.has.has(name)) ? dress(known, target.colour) : undefined;
}

export function knownPlane(scan, axis, k) {
  return planes.has(`${scan.id}/${axis}/${k}`);
}

// Counts answers that changed masks: a mask that was asked for before one and came after it is not kept.
let epoch = 0;

/** Take the masks of an answer, and forget what it made old. */
export function takeChanges(scan, target, changed) {
  epoch += 1;
  const axes = new Set(Object.keys(changed).map((place) => place.split("/")[0]));
  const prefix = `${scan.id}/${target.id}/`;
  for (const key of [...layers.keys()]) {
    if (!key.startsWith(prefix)) continue;
    const [axis, k] = key.slice(prefix.length).split("/");
    const mask = changed[`${axis}/${k}`];
    if (mask !== undefined) {
      const known = layers.get(key);
      // Prompts and candidates of a changed plane are asked for again; its mask is here.
      known.mask = unpack(mask);
      known.stamp = known.path = null;
      known.has.delete("prompts");
      dress(known, target.colour);
    } else if (axes.size && !axes.has(axis)) {
      layers.delete(key);
    }
  }
  for (const [place, mask] of Object.entries(changed)) {
    const [axis, k] = place.split("/");
    const key = keyOf(scan.id, target.id, axis, k);
    if (!layers.has(key)) {
      layers.set(key, { ...NOTHING, has: new Set(["mask"]), mask: unpack(mask) });
    }
  }
}

/** Forget all that is drawn of a scan, or of one target of it. */
export function forget(scan, target = null) {
  epoch += 1;
  const prefix = target ? `${scan.id}/${target.id}/` : `${scan.id}/`;
  for (const key of [...layers.keys()]) if (key.startsWith(prefix)) layers.delete(key);
}

function dress(known, colour) {
  if (known.mask && (!known.stamp || known.colour !== colour)) {
    known.stamp = stamp(known.mask, colour);
    known.path ??= outline(known.mask);
    known.colour = colour;
  }
  if (!known.mask) known.stamp = known.path = null;
  if (known.region && !known.border) known.border = outline(known.region);
  return known;
}

function heatOf(saliency) {
  if (!saliency?.values) return null;
  return heat(bytesOf(saliency.values), saliency.width, saliency.height);
}
