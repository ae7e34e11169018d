// The panes: which planes are shown, what is drawn on them, and slices.

import { Pane, camera } from "../core/pane.js";
import { outline, stamp } from "../core/bits.js";
import { distance } from "../core/marks.js";
import { knownLayers, knownPlane, layersOf, planeOf } from "./data.js";
import { $, el, iconButton, short } from "./dom.js";
import { activeTarget, on, state, tell } from "./state.js";
import { busy, complain } from "./say.js";

export const panes = [];
const VOLUME = ["axial", "coronal", "sagittal"];

/** Axes of the scan in the order in which they are shown: the main one first. */
export function axesShown() {
  const all = Object.keys(state.scan.axes);
  const main = state.main ?? state.scan.acquired;
  return [main, ...all.filter((axis) => axis !== main).sort((a, b) => VOLUME.indexOf(a) - VOLUME.indexOf(b))];
}

/** Whether the scan can be seen in three planes. */
export function hasPlanes() {
  return state.scan !== null && Object.keys(state.scan.axes).length > 1;
}

/** The pane that the keyboard speaks to. */
export function focusedPane() {
  return panes.find((pane) => pane.canvas === document.activeElement) ?? panes[0];
}

/** Take all panes down: those of one scan know nothing of the next. */
export function clear() {
  for (const pane of panes) pane.asked += 1;
  panes.length = 0;
  $("#panes").replaceChildren();
}

/** Put up as many panes as the layout wants. */
export function arrange() {
  clear();
  const place = $("#panes");
  if (!state.scan) return;
  const layout = state.layout === "three" && !hasPlanes() ? "one" : state.layout;
  place.dataset.layout = layout;
  const axes = axesShown();
  const shared = camera();
  const shown = layout === "three" ? axes : layout === "compare" ? [axes[0], axes[0]] : [axes[0]];
  shown.forEach((axis, i) => {
    const canvas = el("canvas", {
      tabindex: "0",
      role: "application",
      "aria-describedby": "canvas-hint",
      "data-axis": axis,
    });
    const pane = new Pane(canvas, layout === "compare" ? shared : camera());
    Object.assign(pane, { axis, side: layout === "compare" ? i : null, layers: [], drawn: null, asked: 0 });
    pane.title = el("span", { class: "pane-title" });
    pane.readout = el("span", { class: "pane-readout" });
    const head = el("div", { class: "pane-head" }, pane.title);
    if (layout === "three" && i > 0) {
      head.append(
        iconButton(
          "grow",
          `Show the ${axis} plane large`,
          () => {
            state.main = axis;
            arrange();
          },
          { class: "icon-button small" },
        ),
      );
    }
    if (layout === "compare") head.append(el("span", { class: "pane-preset", text: state.compare[i] }));
    place.append(el("div", { class: "pane" }, canvas, head, pane.readout));
    panes.push(pane);
  });
  tell("panes");
  refresh();
}

const named = (axis) => (axis === "image" ? "" : axis);

function titleOf(pane) {
  const { count } = state.scan.axes[pane.axis];
  const name = named(pane.axis);
  if (!pane.drawn) return name;
  return count > 1 ? `${name} ${pane.drawn.k + 1} / ${count}` : name;
}

const LIGHT = ["mask", "prompts"];
const PAUSE = 200;

/** Heat and region cost the server a look by the models: they are asked of the selected target, and of no other. */
function heavy() {
  return [...(state.show.saliency ? ["saliency"] : []), ...(state.show.region ? ["region"] : [])];
}

function targetsOf(pane) {
  const { targets } = state.scan;
  const visible = targets.filter((target) => target.visible !== false);
  if (pane.side === null) return visible;
  // What a person drew belongs to no preset, and is seen on both sides.
  return visible.filter((target) => !target.preset || target.preset === state.compare[pane.side]);
}

/** Fetch and draw what each pane should show now. */
export function refresh() {
  for (const pane of panes) refreshPane(pane);
}

async function refreshPane(pane) {
  const { scan, space } = state;
  const turn = (pane.asked += 1);
  const { k } = space.see(pane.axis);
  const targets = targetsOf(pane);
  try {
    if (!knownPlane(scan, pane.axis, k)) pane.canvas.setAttribute("aria-busy", "true");
    const asked = targets.map(async (target) => ({
      target,
      layer: knownLayers(scan, target, pane.axis, k, LIGHT) ?? (await layersOf(scan, target, pane.axis, k, LIGHT)),
    }));
    asked.forEach((promise) => promise.catch(() => {}));
    const plane = await planeOf(scan, pane.axis, k);
    if (turn !== pane.asked) return;
    // A mask of another slice is never drawn over this one.
    if (pane.drawn?.k !== k || pane.drawn.scan !== scan.id) pane.layers = [];
    pane.drawn = { scan: scan.id, k, plane };
    draw(pane);
    const layers = await Promise.all(asked);
    if (turn !== pane.asked) return;
    pane.layers = layers;
    draw(pane);
    pane.canvas.removeAttribute("aria-busy");
    if (pane === panes[0]) tell("drawn");
    await evidence(pane, k, turn);
    if (turn === pane.asked) ahead(pane, k);
  } catch (error) {
    if (turn === pane.asked && error.status !== 404) complain(error);
  }
}

/** Fetch heat and region of the selected target, once the reader stays at a slice. */
async function evidence(pane, k, turn) {
  const { scan } = state;
  const names = heavy();
  const shown = pane.layers.find(({ target }) => target.id === state.active);
  if (!names.length || !shown) return;
  const all = [...LIGHT, ...names];
  let layer = knownLayers(scan, shown.target, pane.axis, k, all);
  if (!layer) {
    await new Promise((done) => setTimeout(done, PAUSE));
    if (turn !== pane.asked) return;
    layer = await busy(layersOf(scan, shown.target, pane.axis, k, all));
  }
  if (turn !== pane.asked) return;
  shown.layer = layer;
  draw(pane);
}

/** Fetch the neighbours while nothing else is to do, so that the wheel does not wait. */
function ahead(pane, k) {
  const { scan } = state;
  const turn = pane.asked;
  const { count } = scan.axes[pane.axis];
  setTimeout(async () => {
    for (const next of [k + 1, k - 1, k + 2, k - 2]) {
      if (turn !== pane.asked || state.scan !== scan || next < 0 || next >= count) continue;
      try {
        await planeOf(scan, pane.axis, next);
        for (const target of targetsOf(pane)) {
          if (!knownLayers(scan, target, pane.axis, next, LIGHT)) await layersOf(scan, target, pane.axis, next, LIGHT);
        }
      } catch {
        // It is said when the slice is asked for.
      }
    }
  }, 120);
}

function sceneOf(pane) {
  const { scan, show, space } = state;
  const axis = scan.axes[pane.axis];
  const seen = space.see(pane.axis);
  const current = activeTarget();
  const here = (mark) => mark.axis === pane.axis && mark.k === pane.drawn.k;
  const layers = pane.layers.map(({ target, layer }) => {
    const shown = show.masks;
    return {
      colour: target.colour,
      active: target.id === current?.id,
      mask: layer.mask,
      stamp: shown ? layer.stamp : null,
      path: shown ? layer.path : null,
      region: show.region && target.id === current?.id ? layer.border : null,
      heat: show.saliency && target.id === current?.id ? layer.heat : null,
      boxes: show.prompts && target.id === current?.id ? layer.boxes : [],
      points: show.prompts && target.id === current?.id ? layer.points : [],
    };
  });
  const { preview } = state;
  if (preview && preview.axis === pane.axis && preview.k === pane.drawn.k && preview.mask) {
    preview.stamp ??= stamp(preview.mask, "#ffffff");
    preview.path ??= outline(preview.mask);
    layers.push({ ...preview, colour: "#ffffff", active: true });
  }
  const firm = document.activeElement === pane.canvas && state.keyboard === true;
  return {
    plane: pane.drawn.plane,
    range: { low: scan.range[0], high: scan.range[1] },
    window: state.window,
    invert: state.invert,
    smooth: show.smooth,
    spacing: axis.spacing,
    places: axis.places,
    layers,
    style: show.style,
    opacity: show.opacity,
    cross:
      firm || state.tool === "cross" || (state.layout === "three" && panes.length > 1)
        ? { x: seen.x, y: seen.y, firm }
        : null,
    letters: axis.letters ?? null,
    marks: [...state.pending, ...state.tapes, ...(state.hover ? [state.hover] : [])].filter(here),
  };
}

/** Draw a pane with what is here, asking nothing. */
export function draw(pane) {
  if (!pane.drawn || pane.drawn.scan !== state.scan?.id) return;
  pane.title.textContent = titleOf(pane);
  const { plane } = pane.drawn;
  const label = `Scan, ${titleOf(pane) || "image"}, ${plane.width} by ${plane.height} pixels`;
  if (pane.canvas.getAttribute("aria-label") !== label) pane.canvas.setAttribute("aria-label", label);
  pane.show(sceneOf(pane));
}

export function redraw() {
  for (const pane of panes) draw(pane);
}

/** The scan's value at a position of a pane's plane, with its unit; "" outside. */
export function valueAt(pane, { x, y }) {
  const plane = pane.drawn?.plane;
  if (!plane || x < 0 || y < 0 || x >= plane.width || y >= plane.height) return "";
  const i = Math.floor(y) * plane.width + Math.floor(x);
  if (plane.colour) return [...plane.data.slice(3 * i, 3 * i + 3)].join(" ");
  const [low, high] = state.scan.range;
  const unit = state.scan.unit ? ` ${state.scan.unit}` : "";
  return `${short(low + (plane.data[i] * (high - low)) / 65535)}${unit}`;
}

/** Say position and value under the pointer, in the pane's corner. */
export function readOut(pane, at) {
  const value = at ? valueAt(pane, at) : "";
  pane.readout.textContent = value === "" ? "" : `x ${Math.floor(at.x)}  y ${Math.floor(at.y)}  ·  ${value}`;
}

/** Move by slices along a pane's axis. */
export function step(pane, by) {
  const { k } = state.space.see(pane.axis);
  goTo(pane.axis, k + by);
}

/** Show a slice of an axis, and in other planes the crosshair on it. */
export function goTo(axis, k) {
  const { count } = state.scan.axes[axis];
  const next = Math.min(count - 1, Math.max(0, k));
  if (next === state.space.see(axis).k && count > 1) return;
  state.space.move(axis, { k: next });
  tell("moved");
}

/** Put the crosshair at a place of a pane's plane; the other planes follow. */
export function moveCross(pane, at) {
  const plane = pane.drawn?.plane;
  if (!plane) return;
  state.space.move(pane.axis, { x: at.x, y: at.y });
  tell("moved");
}

/** Fit all planes to their panes again. */
export function fit() {
  for (const pane of panes) Object.assign(pane.camera, camera());
  redraw();
}

export function tapeWords(tape) {
  const { spacing, places } = state.scan.axes[tape.axis];
  return distance(tape.from, tape.to, spacing, places);
}

/** Watch for what changes the panes. */
export function watchViewer() {
  on("moved targets", refresh);
  on("display marks", redraw);
  new ResizeObserver(redraw).observe($("#panes"));
}
