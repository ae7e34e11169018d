// Tools: one gesture for each, begun by a pointer or by Enter, so that the keyboard draws what the mouse draws.

import { within } from "../core/bits.js";
import { edit } from "./edits.js";
import { activeTarget, state, tell } from "./state.js";
import { moveCross, tapeWords } from "./viewer.js";
import { note } from "./say.js";

/** What the rail shows: name, words, picture, key. `drag` tools need a beginning and an end. */
export const TOOLS = [
  { name: "point", label: "Point: click adds, right click removes, drag a box", icon: "point", key: "p" },
  { name: "box", label: "Box", icon: "box", key: "b", drag: true },
  { name: "scribble", label: "Scribble", icon: "scribble", key: "l", drag: true },
  { name: "brush", label: "Brush", icon: "brush", key: "d", drag: true },
  { name: "erase", label: "Eraser", icon: "erase", key: "e", drag: true },
  { name: "keep", label: "Keep the piece under the cursor", icon: "keep", key: "k" },
  { name: "cross", label: "Crosshair", icon: "cross", key: "q" },
  {
    name: "window",
    label: "Window: drag sideways for contrast, up and down for brightness",
    icon: "window",
    key: "w",
    drag: true,
  },
  { name: "pan", label: "Move the picture", icon: "pan", key: "g", drag: true },
  { name: "measure", label: "Measure", icon: "measure", key: "m", drag: true },
];

export const toolOf = (name) => TOOLS.find((tool) => tool.name === name);

export function chooseTool(name) {
  state.tool = name;
  state.hover = null;
  tell("tool");
  tell("marks");
}

const colour = () => activeTarget()?.colour ?? "#35c4b5";

function clamp(pane, { x, y }) {
  const { width, height } = pane.drawn.plane;
  return { x: Math.min(width, Math.max(0, x)), y: Math.min(height, Math.max(0, y)) };
}

export function inPlane(pane, { x, y }) {
  const plane = pane.drawn?.plane;
  return Boolean(plane) && x >= 0 && y >= 0 && x < plane.width && y < plane.height;
}

/**
 * Begin a drawing.
 * @param {string} tool
 * @param {{x: number, y: number}} at a position of the pane's plane.
 */
export function begin(pane, tool, at, inside) {
  const place = { axis: pane.axis, k: pane.drawn.k };
  const gesture = { pane, place, tool, inside, from: clamp(pane, at), points: [[at.x, at.y]], mark: null };
  if (tool === "box") gesture.mark = { ...place, kind: "box", box: boxOf(gesture, at), colour: colour() };
  if (tool === "scribble") {
    gesture.mark = { ...place, kind: "stroke", points: gesture.points, colour: inside ? "#4ade80" : "#fb7185" };
  }
  if (tool === "brush" || tool === "erase") {
    gesture.mark = {
      ...place,
      kind: "stroke",
      points: gesture.points,
      radius: state.radius,
      colour: tool === "brush" ? colour() : "#e8edf5",
    };
  }
  if (tool === "measure") {
    gesture.mark = { ...place, kind: "tape", from: gesture.from, to: gesture.from };
    state.tapes = [...state.tapes.filter((tape) => tape.axis !== place.axis || tape.k !== place.k), gesture.mark];
  } else if (gesture.mark) {
    state.pending.push(gesture.mark);
  }
  tell("marks");
  return gesture;
}

function boxOf({ from, pane }, at) {
  const to = clamp(pane, at);
  return [Math.min(from.x, to.x), Math.min(from.y, to.y), Math.max(from.x, to.x), Math.max(from.y, to.y)];
}

/** Draw on. */
export function extend(gesture, at) {
  const { tool, mark, pane } = gesture;
  if (tool === "box") mark.box = boxOf(gesture, at);
  if (tool === "measure") mark.to = clamp(pane, at);
  if (tool === "scribble" || tool === "brush" || tool === "erase") {
    const [x, y] = gesture.points.at(-1);
    // Closer points than half a pixel say nothing new.
    if (Math.hypot(at.x - x, at.y - y) >= 0.5) gesture.points.push([at.x, at.y]);
  }
  tell("marks");
}

/** End a drawing: the server is asked. */
export function finish(gesture, at) {
  extend(gesture, at);
  const { tool, mark, place } = gesture;
  if (tool === "box") {
    const [x0, y0, x1, y1] = mark.box;
    if (x1 - x0 < 1 || y1 - y0 < 1) {
      drop(gesture);
      note("A box needs a pixel at least each way: drag from corner to corner.");
      return null;
    }
    return edit(place, "box", { box: mark.box }, mark);
  }
  if (tool === "measure") {
    note(`Distance ${tapeWords(mark)}`);
    return null;
  }
  const points = thin(gesture.points);
  if (tool === "scribble") {
    // Points beside the plane say nothing of it.
    const { width, height } = gesture.pane.drawn.plane;
    const inner = points.filter(([x, y]) => x >= 0 && y >= 0 && x < width && y < height);
    if (inner.length) return edit(place, "scribble", { points: inner, inside: gesture.inside }, mark);
    drop(gesture);
    return null;
  }
  return edit(place, "paint", { points, radius: state.radius, erase: tool === "erase" }, mark);
}

/** Points of a line without those that lie where the next one is anyway. */
function thin(points) {
  const kept = [points[0]];
  for (const point of points.slice(1)) {
    const [x, y] = kept.at(-1);
    if (Math.hypot(point[0] - x, point[1] - y) >= 1 || point === points.at(-1)) kept.push(point);
  }
  return kept.map(([x, y]) => [Number(x.toFixed(2)), Number(y.toFixed(2))]);
}

export function drop({ mark }) {
  state.pending = state.pending.filter((other) => other !== mark);
  state.tapes = state.tapes.filter((other) => other !== mark);
  tell("marks");
}

/** One click of a tool that needs no dragging. */
export function press(pane, tool, at, inside) {
  if (!inPlane(pane, at)) return null;
  const place = { axis: pane.axis, k: pane.drawn.k };
  if (tool === "cross") {
    moveCross(pane, at);
    return null;
  }
  if (tool === "keep") {
    const target = activeTarget();
    const layer = pane.layers.find((one) => one.target.id === target?.id)?.layer;
    if (!target || !within(layer?.mask ?? null, at.x, at.y)) {
      note("There is no piece of the selected target under the cursor.");
      return null;
    }
    return edit(place, "keep", { x: at.x, y: at.y });
  }
  moveCross(pane, at);
  return edit(place, "click", { x: at.x, y: at.y, inside }, { ...place, kind: "point", x: at.x, y: at.y, inside });
}

/** Fill the holes of the active target in the plane that is shown. */
export function fillHoles(pane) {
  if (!activeTarget()) {
    note("Select a target first.");
    return null;
  }
  return edit({ axis: pane.axis, k: pane.drawn.k }, "fill");
}

/** Change black and white by a drag: sideways the width, up and down the centre, as radiology viewers do. */
export function dragWindow(dx, dy) {
  const [low, high] = state.scan.colour ? [0, 255] : state.scan.range;
  const span = Math.max(high - low, 1e-9);
  const { low: black, high: white } = state.window;
  const width = Math.max(white - black, span / 1000);
  const speed = Math.max(width, span / 50) / 250;
  const wide = Math.min(4 * span, Math.max(span / 1000, width + dx * speed));
  const centre = Math.min(high + span, Math.max(low - span, (black + white) / 2 + dy * speed));
  state.window = { low: centre - wide / 2, high: centre + wide / 2, name: "custom" };
  tell("display");
}
