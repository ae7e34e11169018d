// A result as a figure that needs no server: slices, masks, heat, zoom and window, from what the document holds.

import { bytesOf, outline, stamp, unpack } from "./bits.js";
import { heat } from "./tones.js";
import { Pane } from "./pane.js";

/** An element with text and children. */
function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Show a result.
 * @param {HTMLElement} root
 * @param {object} result width, height, spacing, colour, name, planes [{index, pixels}], targets [{name, words, colour,
 *   slices: {place: {mask, boxes, saliency}}}]; places count the planes that are here.
 */
export function showFigure(root, result) {
  const canvas = make("canvas", { tabindex: "0", role: "img", "aria-label": `Segmentation of ${result.id}` });
  const pane = new Pane(canvas);
  const state = {
    place: result.start,
    window: { low: 0, high: 1 },
    style: "both",
    opacity: 0.35,
    heat: false,
    shown: result.targets.map(() => true),
  };
  const planes = new Map();
  const layers = new Map();

  const planeOf = (place) => {
    if (!planes.has(place)) {
      const bytes = bytesOf(result.planes[place].pixels);
      const data = result.colour ? bytes : Uint16Array.from(bytes, (value) => 257 * value);
      planes.set(place, { data, width: result.width, height: result.height, colour: result.colour });
    }
    return planes.get(place);
  };

  const layerOf = (k, place) => {
    const key = `${k}/${place}`;
    if (!layers.has(key)) {
      const { colour, slices } = result.targets[k];
      const given = slices[place] ?? {};
      const mask = unpack(given.mask);
      const { saliency } = given;
      layers.set(key, {
        colour,
        mask,
        active: true,
        boxes: given.boxes ?? [],
        points: [],
        stamp: mask && stamp(mask, colour),
        path: mask && outline(mask),
        warm: saliency ? heat(bytesOf(saliency.values), saliency.width, saliency.height) : null,
      });
    }
    const layer = layers.get(key);
    return { ...layer, heat: state.heat ? layer.warm : null };
  };

  const draw = () => {
    // Colours are windowed as bytes, greys as shares.
    const scale = result.colour ? 255 : 1;
    pane.show({
      plane: planeOf(state.place),
      range: { low: 0, high: 1 },
      smooth: true,
      spacing: result.spacing,
      letters: result.letters,
      invert: false,
      window: { low: scale * state.window.low, high: scale * state.window.high },
      layers: result.targets
        .map((_, k) => k)
        .filter((k) => state.shown[k])
        .map((k) => layerOf(k, state.place)),
      style: state.style,
      opacity: state.opacity,
      marks: [],
    });
    const { index } = result.planes[state.place];
    words.textContent = result.count > 1 ? `${result.plane} ${index + 1} / ${result.count}` : "";
    slider.value = state.place;
  };

  const go = (place) => {
    state.place = Math.min(result.planes.length - 1, Math.max(0, place));
    draw();
  };

  const words = make("output", { class: "words" });
  const slider = make("input", {
    type: "range",
    min: "0",
    max: String(result.planes.length - 1),
    "aria-label": "Slice",
  });
  slider.addEventListener("input", () => go(Number(slider.value)));
  slider.hidden = result.planes.length < 2;

  const check = (label, checked, change, colour) => {
    const box = make("input", { type: "checkbox" });
    box.checked = checked;
    box.addEventListener("change", () => {
      change(box.checked);
      draw();
    });
    const dot = make("span", { class: "dot" });
    if (colour) dot.style.background = colour;
    return make("label", {}, box, ...(colour ? [dot] : []), label);
  };
  const style = make(
    "select",
    { "aria-label": "Masks as" },
    ...["both", "outline", "fill"].map((name) => make("option", { value: name }, name)),
  );
  style.addEventListener("change", () => {
    state.style = style.value;
    draw();
  });
  const warm = result.targets.some(({ slices }) => Object.values(slices).some((each) => each.saliency));
  const legend = make(
    "div",
    { class: "legend" },
    ...result.targets.map((target, k) =>
      check(
        make("span", {}, make("b", {}, target.name), ` ${target.words}`),
        true,
        (on) => {
          state.shown[k] = on;
        },
        target.colour,
      ),
    ),
    make("span", { class: "gap" }),
    style,
    ...(warm
      ? [
          check("heat map", false, (on) => {
            state.heat = on;
          }),
        ]
      : []),
  );

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };
  let held = null;
  canvas.addEventListener("pointerdown", (event) => {
    held = { button: event.button, ...at(event) };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held) return;
    const next = at(event);
    const [dx, dy] = [next.x - held.x, next.y - held.y];
    if (held.button === 2) {
      const { low, high } = state.window;
      const width = Math.max(0.02, high - low + dx / 250);
      const centre = (low + high) / 2 + dy / 500;
      state.window = { low: centre - width / 2, high: centre + width / 2 };
    } else {
      pane.pan(dx, dy);
    }
    Object.assign(held, next);
    draw();
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      held = null;
    });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", () => {
    Object.assign(pane.camera, { zoom: 1, x: 0.5, y: 0.5 });
    state.window = { low: 0, high: 1 };
    draw();
  });
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      if (event.ctrlKey || result.planes.length < 2) pane.zoom(Math.exp(-event.deltaY * 0.0015), at(event));
      else go(state.place + Math.sign(event.deltaY));
      draw();
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowUp: -1, PageUp: -1, ArrowDown: 1, PageDown: 1 }[event.key];
    if (by) {
      event.preventDefault();
      go(state.place + by);
    }
  });

  const notes = result.notes.map((line) => make("p", { class: "note" }, line));
  root.replaceChildren(legend, make("div", { class: "scan" }, canvas, words), slider, ...notes);
  new ResizeObserver(draw).observe(canvas);
  draw();
}
