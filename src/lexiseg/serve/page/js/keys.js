// Keys: everything that the mouse does.

import { $ } from "./dom.js";
import { redo, undo } from "./edits.js";
import { begin, chooseTool, drop, extend, fillHoles, finish, press, toolOf, TOOLS } from "./tools.js";
import { state, tell } from "./state.js";
import { calm, note } from "./say.js";
import { fit, focusedPane, goTo, moveCross, panes, redraw, step, valueAt } from "./viewer.js";

let drawing = null;

/** Every single key: what it does and what the overlay says of it. Others add theirs. */
export const KEYS = [
  ...TOOLS.map((tool) => ({ key: tool.key, group: "Tools", words: tool.label, run: () => chooseTool(tool.name) })),
  { key: "h", group: "Mask", words: "Fill holes of the selected target", run: () => fillHoles(focusedPane()) },
  { key: "x", group: "Mask", words: "Switch between adding and removing", run: flip },
  { key: "[", group: "Mask", words: "Smaller brush", run: () => size(1 / 1.25) },
  { key: "]", group: "Mask", words: "Larger brush", run: () => size(1.25) },
  { key: "v", group: "View", words: "Hide or show masks", run: () => show("masks", !state.show.masks) },
  { key: "o", group: "View", words: "Outline, fill, or both", run: nextStyle },
  {
    key: "y",
    group: "View",
    words: "Heat map of where the phrase speaks",
    run: () => show("saliency", !state.show.saliency),
  },
  { key: "i", group: "View", words: "Invert black and white", run: invert },
  { key: "+", group: "View", words: "Zoom in", run: () => zoom(1.25) },
  { key: "-", group: "View", words: "Zoom out", run: () => zoom(0.8) },
  { key: "0", group: "View", words: "Fit to the window", run: fit },
  { key: "f", group: "View", words: "Full screen", run: fullScreen },
  { key: ",", group: "Slices", words: "Previous slice (also Page up)", run: () => step(focusedPane(), -1) },
  { key: ".", group: "Slices", words: "Next slice (also Page down)", run: () => step(focusedPane(), 1) },
  { key: "/", group: "Page", words: "Type a phrase", run: () => $("#phrase").focus(), always: true },
  { key: "?", group: "Page", words: "This list", run: () => tell("help"), always: true, page: true },
];

function flip() {
  state.inside = !state.inside;
  tell("tool");
}

export function size(factor) {
  const halves = 2 * state.radius * factor;
  state.radius = Math.min(60, Math.max(1, (factor > 1 ? Math.ceil(halves) : Math.floor(halves)) / 2));
  tell("tool");
}

export function show(name, value) {
  state.show[name] = value;
  tell("display");
  if (name === "saliency" || name === "region") tell("moved");
}

const STYLES = ["both", "outline", "fill"];

function nextStyle() {
  show("style", STYLES[(STYLES.indexOf(state.show.style) + 1) % STYLES.length]);
}

export function invert() {
  state.invert = !state.invert;
  tell("display");
}

export function zoom(factor) {
  const pane = focusedPane();
  if (!pane?.drawn) return;
  const { width, height } = pane.size();
  const seen = state.space.see(pane.axis);
  pane.zoom(factor, state.keyboard ? pane.toScreen(seen) : { x: width / 2, y: height / 2 });
  redraw();
}

export async function fullScreen() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else await $("#stage").requestFullscreen();
  } catch {
    note("This browser does not allow full screen here.");
  }
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function atCross(pane) {
  const { x, y } = state.space.see(pane.axis);
  return { x, y };
}

function speak(pane) {
  const { k, x, y } = state.space.see(pane.axis);
  const { count } = state.scan.axes[pane.axis];
  $("#spoken").textContent =
    (count > 1 ? `slice ${k + 1}, ` : "") +
    `column ${Math.floor(x)}, row ${Math.floor(y)}, value ${valueAt(pane, { x, y })}`;
}

/** Keys on a pane's canvas: the crosshair and what Enter does there. */
function onCanvas(event, pane) {
  if (!pane.drawn) return false;
  const arrow = ARROWS[event.key];
  if (arrow && !event.ctrlKey && !event.metaKey) {
    const by = event.shiftKey ? 10 : 1;
    const { width, height } = pane.drawn.plane;
    const { x, y } = atCross(pane);
    // The crosshair stands on centres of pixels.
    const at = {
      x: Math.min(width - 0.5, Math.max(0.5, Math.floor(x) + 0.5 + by * arrow[0])),
      y: Math.min(height - 0.5, Math.max(0.5, Math.floor(y) + 0.5 + by * arrow[1])),
    };
    state.keyboard = true;
    moveCross(pane, at);
    pane.reveal(at);
    if (drawing) extend(drawing, at);
    redraw();
    speak(pane);
    return true;
  }
  if (event.key === "Enter") {
    state.keyboard = true;
    enter(pane, event);
    return true;
  }
  if (event.key === "Home" || event.key === "End") {
    goTo(pane.axis, event.key === "Home" ? 0 : state.scan.axes[pane.axis].count - 1);
    return true;
  }
  return false;
}

function enter(pane, event) {
  const at = atCross(pane);
  const inside = state.inside !== (event.altKey || event.shiftKey);
  if (drawing) {
    const done = drawing;
    drawing = null;
    finish(done, at);
    return;
  }
  const drags = toolOf(state.tool).drag && !["window", "pan"].includes(state.tool);
  if (!drags) {
    press(pane, ["keep", "cross"].includes(state.tool) ? state.tool : "point", at, inside);
    return;
  }
  drawing = begin(pane, state.tool, at, inside);
  note(`${toolOf(state.tool).name} begun: move with the arrow keys, Enter ends it, Escape leaves it.`);
}

function escape() {
  if (drawing) {
    drop(drawing);
    drawing = null;
    note("Left as it was.");
  } else if (!$("#alert").hidden) {
    calm();
  }
}

const typing = (node) =>
  node.matches?.("input:not([type=range]):not([type=checkbox]):not([type=radio]):not([type=color]), select, textarea");

export function watchKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || document.querySelector("dialog[open]")) return;
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (
      (event.ctrlKey || event.metaKey) &&
      !event.altKey &&
      (letter === "z" || letter === "y") &&
      !typing(event.target)
    ) {
      event.preventDefault();
      if (letter === "y" || event.shiftKey) redo();
      else undo();
      return;
    }
    if (event.key === "Escape") {
      escape();
      return;
    }
    const pane = panes.find((each) => each.canvas === event.target);
    if (pane && onCanvas(event, pane)) {
      event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (state.scan && (event.key === "PageUp" || event.key === "PageDown")) {
      event.preventDefault();
      step(focusedPane(), event.key === "PageUp" ? -1 : 1);
      return;
    }
    const known = KEYS.find((each) => each.key === letter || (each.key === "+" && letter === "="));
    if (
      !known ||
      (!state.scan && !known.page) ||
      (known.ready && !known.ready()) ||
      (!state.singleKeys && !known.always)
    )
      return;
    // A letter on a button or in a list is the list's own where it is Space or Enter alone.
    event.preventDefault();
    known.run();
  });
}
