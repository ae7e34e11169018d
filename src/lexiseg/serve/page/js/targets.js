// The list of targets: colour, what was found in words and numbers, visibility, lock.

import { $, el, icon, iconButton, short, two } from "./dom.js";
import { addTarget, change, edit, remove, setThreshold } from "./edits.js";
import { activeTarget, on, state, tell } from "./state.js";
import { note } from "./say.js";
import { goTo, panes } from "./viewer.js";

function choose(target) {
  state.active = target.id;
  tell("targets");
}

function sizeOf(target) {
  if (Number.isFinite(target.volume_mm3) && target.volume_mm3 > 0) return `${short(target.volume_mm3 / 1000)} ml`;
  if (Number.isFinite(target.area_mm2) && target.area_mm2 > 0) return `${short(target.area_mm2)} mm²`;
  if (target.pixels > 0) return `${target.pixels} px`;
  if (target.voxels > 0) return `${target.voxels} voxels`;
  return "";
}

/** Presence where the words do not say it already, and confidence. */
function numbers(target) {
  if (!Number.isFinite(target.presence)) return "";
  const said = (target.words ?? "").includes(two(target.presence));
  return [said ? "" : `presence ${two(target.presence)}`, `confidence ${two(target.confidence)}`]
    .filter(Boolean)
    .join(" · ");
}

const VERDICTS = { present: "present", absent: "absent", unknown: "unknown" };

function row(target) {
  const active = target.id === state.active;
  const hidden = target.visible === false;
  const colour = el("input", {
    type: "color",
    class: "colour",
    value: target.colour,
    title: "Colour",
    "aria-label": `Colour of ${target.name}`,
    on: { change: (event) => change(target, { colour: event.target.value }) },
  });
  const name = el(
    "button",
    {
      type: "button",
      class: "target-name",
      "aria-pressed": String(active),
      title: "Edits go to the selected target",
      on: { click: () => choose(target), dblclick: () => rename(target) },
    },
    el("span", { class: "target-title", text: target.name }),
    el("span", {
      class: `verdict ${target.edited ? "" : (VERDICTS[target.verdict] ?? "")}`,
      text: [target.words || target.verdict, sizeOf(target)].filter(Boolean).join(" · "),
    }),
    el("span", { class: "dim small-text", text: numbers(target) }),
    target.preset && target.preset !== state.scan.preset
      ? el("span", { class: "dim small-text", text: `models: ${target.preset}` })
      : null,
  );
  const tools = el(
    "div",
    { class: "target-tools" },
    iconButton(
      hidden ? "hidden" : "eye",
      `${hidden ? "Show" : "Hide"} ${target.name}`,
      () => change(target, { visible: hidden }),
      { "aria-pressed": String(!hidden) },
    ),
    iconButton(
      target.locked ? "lock" : "open",
      `${target.locked ? "Unlock" : "Lock"} ${target.name}`,
      () => change(target, { locked: !target.locked }),
      { "aria-pressed": String(Boolean(target.locked)) },
    ),
    iconButton("trash", `Remove ${target.name}`, () => remove(target)),
  );
  const item = el("li", { class: `target${active ? " active" : ""}${hidden ? " off" : ""}` }, colour, name, tools);
  item.style.setProperty("--own", target.colour);
  if (active) item.append(more(target));
  return item;
}

/** What can be done with the selected target as a whole. */
function more(target) {
  const [first] = panes;
  const box = el("div", { class: "target-more" });
  const many = first && state.scan.axes[first.axis].count > 1;
  const button = (name, words, run) =>
    el("button", { type: "button", class: "button small quiet", on: { click: run } }, icon(name), words);
  box.append(button("correct", "Rename", () => rename(target)));
  if (many) {
    if (state.about.propagate) box.append(button("spread", "Propagate", propagate));
    const at = target.slices?.[first.axis] ?? [];
    if (at.length) box.append(button("after", "Next slice with it", () => nextSlice(first.axis, at)));
  }
  return box;
}

function nextSlice(axis, at) {
  const { k } = state.space.see(axis);
  goTo(axis, at.find((each) => each > k) ?? at[0]);
}

/** Carry the mask of the shown slice to its neighbours. */
export function propagate() {
  const [pane] = panes;
  if (!activeTarget()) {
    note("Select a target first.");
    return null;
  }
  return edit({ axis: pane.axis, k: pane.drawn.k }, "propagate");
}

function rename(target) {
  const item = $("#targets").children[state.scan.targets.indexOf(target)];
  const field = el("input", {
    class: "input",
    value: target.name,
    "aria-label": `New name of ${target.name}`,
    maxlength: "200",
  });
  const done = (keep) => {
    const value = field.value.trim();
    field.replaceWith(shown);
    if (keep && value && value !== target.name) change(target, { name: value });
    else render();
  };
  let ended = false;
  const end = (keep) => {
    if (!ended) {
      ended = true;
      done(keep);
    }
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      end(event.key === "Enter");
    }
  });
  field.addEventListener("blur", () => end(true));
  const shown = $(".target-name", item);
  shown.replaceWith(field);
  field.select();
}

function render() {
  const { scan } = state;
  if (!scan) return;
  const focus = document.activeElement?.closest?.("#targets")
    ? (document.activeElement.getAttribute("aria-label") ?? "name")
    : null;
  $("#targets").replaceChildren(...scan.targets.map(row));
  if (focus) {
    // The list is made anew: whoever stood on a button of it stands on the same one.
    const again = [...$("#targets").querySelectorAll("button, input")].find(
      (each) => each.getAttribute("aria-label") === focus,
    );
    (again ?? $("#targets .active .target-name") ?? $("#phrase")).focus();
  }
  $("#targets-none").hidden = scan.targets.length > 0;
  const judged = scan.targets.some((target) => Number.isFinite(target.presence));
  $("#threshold-row").hidden = !judged || !Number.isFinite(scan.threshold);
  if (document.activeElement !== $("#threshold") && Number.isFinite(scan.threshold)) {
    $("#threshold").value = scan.threshold;
  }
  $("#threshold-value").textContent = two(Number($("#threshold").value));
}

export function setUpTargets() {
  on("scan targets panes", render);
  $("#target-add").addEventListener("click", addTarget);
  const slider = $("#threshold");
  slider.addEventListener("input", () => {
    $("#threshold-value").textContent = two(Number(slider.value));
    setThreshold(Number(slider.value));
  });
}
