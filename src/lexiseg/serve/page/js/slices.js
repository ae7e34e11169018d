// The slider of slices, with ticks where each target has a mask.

import { $, el, iconButton } from "./dom.js";
import { on, state } from "./state.js";
import { goTo, panes, step } from "./viewer.js";

export function setUpSlices() {
  const slider = el("input", {
    type: "range",
    id: "slice",
    min: "0",
    step: "1",
    "aria-label": "Slice",
    on: { input: (event) => goTo(panes[0].axis, Number(event.target.value)) },
  });
  const ticks = el("canvas", { class: "ticks", id: "ticks", "aria-hidden": "true" });
  $("#slices").append(
    iconButton("before", "Previous slice (Page up)", () => step(panes[0], -1)),
    el("div", { class: "track" }, ticks, slider),
    iconButton("after", "Next slice (Page down)", () => step(panes[0], 1)),
    el("output", { id: "slice-words", for: "slice" }),
  );
  on("panes moved targets", render);
  new ResizeObserver(drawTicks).observe(ticks);
}

function render() {
  const bar = $("#slices");
  const [pane] = panes;
  const count = pane && state.scan ? state.scan.axes[pane.axis].count : 1;
  bar.hidden = count < 2;
  if (count < 2) return;
  const { k } = state.space.see(pane.axis);
  const slider = $("#slice");
  slider.max = count - 1;
  slider.value = k;
  const words = `${pane.axis} ${k + 1} of ${count}`;
  slider.setAttribute("aria-valuetext", words);
  $("#slice-words").textContent = `${k + 1} / ${count}`;
  drawTicks();
}

function drawTicks() {
  const [pane] = panes;
  const canvas = $("#ticks");
  if (!pane || !state.scan || !canvas.clientWidth) return;
  const ratio = devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const { count } = state.scan.axes[pane.axis];
  // The thumb's centre runs from half a thumb after the left end to half a thumb before the right one.
  const thumb = 16;
  const place = (k) => thumb / 2 + (k / Math.max(1, count - 1)) * (canvas.clientWidth - thumb);
  const wide = Math.max(1.5, (canvas.clientWidth - thumb) / count);
  const shown = state.scan.targets.filter((target) => target.visible !== false && target.slices?.[pane.axis]?.length);
  const high = canvas.clientHeight / Math.max(1, shown.length);
  shown.forEach((target, i) => {
    context.fillStyle = target.colour;
    for (const k of target.slices[pane.axis])
      context.fillRect(place(k) - wide / 2, i * high, wide, Math.max(1, high - 1));
  });
}
