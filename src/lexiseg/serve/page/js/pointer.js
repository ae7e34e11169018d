// Mouse, pen and fingers over the panes.

import { begin, drop, dragWindow, extend, finish, inPlane, press, toolOf } from "./tools.js";
import { state, tell } from "./state.js";
import { moveCross, panes, readOut, redraw, step } from "./viewer.js";

const SLACK = 4;
const NOTCH = 60;

/** Listen on a pane's canvas. */
export function listen(pane) {
  const { canvas } = pane;
  const fingers = new Map();
  let gesture = null;
  let wheel = 0;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  const start = (event) => {
    if (!pane.drawn) return;
    canvas.focus({ preventScroll: true });
    state.keyboard = false;
    const at = place(event);
    fingers.set(event.pointerId, at);
    canvas.setPointerCapture(event.pointerId);
    if (fingers.size === 2) {
      if (gesture?.drawing) drop(gesture.drawing);
      gesture = { kind: "pinch" };
      return;
    }
    if (fingers.size > 2) return;
    gesture = { kind: kindOf(event), from: at, last: at, moved: false, alt: event.altKey, button: event.button };
    if (gesture.kind === "draw") {
      gesture.drawing = begin(pane, state.tool, pane.toPlane(at), state.inside !== event.altKey);
    }
    if (gesture.kind === "cross") moveCross(pane, pane.toPlane(at));
  };

  const kindOf = ({ button, shiftKey }) => {
    if (button === 1 || (button === 0 && (shiftKey || state.tool === "pan"))) return "pan";
    if (button === 2) return "right";
    if (state.tool === "window") return "window";
    if (state.tool === "cross") return "cross";
    return toolOf(state.tool).drag ? "draw" : "press";
  };

  const move = (event) => {
    if (!pane.drawn) return;
    const at = place(event);
    readOut(pane, pane.toPlane(at));
    if (fingers.has(event.pointerId)) {
      if (gesture?.kind === "pinch") pinch(event.pointerId, at);
      else if (gesture) drag(at, event);
      fingers.set(event.pointerId, at);
    }
    ring(at);
  };

  const drag = (at, event) => {
    const [dx, dy] = [at.x - gesture.last.x, at.y - gesture.last.y];
    if (!gesture.moved && Math.hypot(at.x - gesture.from.x, at.y - gesture.from.y) <= SLACK) return;
    gesture.moved = true;
    gesture.last = at;
    if (gesture.kind === "pan") {
      pane.pan(dx, dy);
      redraw();
    } else if (gesture.kind === "right" || gesture.kind === "window") {
      gesture.kind = "window";
      dragWindow(dx, dy);
    } else if (gesture.kind === "cross") {
      moveCross(pane, pane.toPlane(at));
    } else if (gesture.kind === "press" && state.tool === "point") {
      // A drag with the point tool is a box: what both need is under one finger.
      gesture.kind = "draw";
      gesture.drawing = begin(pane, "box", pane.toPlane(gesture.from), true);
      extend(gesture.drawing, pane.toPlane(at));
    } else if (gesture.kind === "draw") {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const each of steps.length ? steps : [event]) extend(gesture.drawing, pane.toPlane(place(each)));
    }
  };

  const pinch = (id, at) => {
    const [first, second] = [...fingers.entries()];
    const other = first[0] === id ? second[1] : first[1];
    const before = fingers.get(id);
    const apart = (one) => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y));
    const middle = { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 };
    pane.zoom(apart(at) / apart(before), middle);
    pane.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    redraw();
  };

  const end = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    const done = gesture;
    if (fingers.size || !done) {
      // The finger that stays after a pinch draws nothing.
      gesture = fingers.size ? { kind: "rest" } : null;
      return;
    }
    gesture = null;
    const at = pane.toPlane(place(event));
    if (done.kind === "draw") finish(done.drawing, at);
    if (done.kind === "press") press(pane, state.tool, at, state.inside !== (done.alt || event.altKey));
    if (done.kind === "right" && !done.moved) press(pane, "point", at, false);
  };

  const stop = (event) => {
    fingers.delete(event.pointerId);
    if (gesture?.drawing) drop(gesture.drawing);
    gesture = null;
  };

  const ring = (at) => {
    const painting = state.tool === "brush" || state.tool === "erase";
    const spot = pane.toPlane(at);
    const next =
      painting && inPlane(pane, spot)
        ? {
            axis: pane.axis,
            k: pane.drawn.k,
            kind: "brush",
            x: spot.x,
            y: spot.y,
            radius: state.radius,
            colour: "#ffffff",
          }
        : null;
    if (!next && !state.hover) return;
    state.hover = next;
    tell("marks");
  };

  canvas.addEventListener("pointerdown", start);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", stop);
  canvas.addEventListener("pointerleave", () => {
    readOut(pane, null);
    if (state.hover) {
      state.hover = null;
      tell("marks");
    }
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("auxclick", (event) => event.preventDefault());
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (!pane.drawn) return;
      const many = state.scan.axes[pane.axis].count > 1;
      if (event.ctrlKey || event.metaKey || !many) {
        pane.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), place(event));
        redraw();
        return;
      }
      wheel += event.deltaMode ? event.deltaY * NOTCH : event.deltaY;
      const slices = Math.trunc(wheel / NOTCH);
      if (!slices) return;
      wheel -= slices * NOTCH;
      step(pane, Math.sign(slices));
      if (Math.abs(slices) > 1) wheel = 0;
    },
    { passive: false },
  );
}

/** Listen on all panes that are up. */
export function listenAll() {
  panes.forEach(listen);
}
