// Above the panes: what the chosen tool can do, and the segmenter's other answers to a click.

import { unpack } from "../core/bits.js";
import * as api from "./api.js";
import { $, el, icon } from "./dom.js";
import { edit } from "./edits.js";
import { KEYS } from "./keys.js";
import { chooseTool, fillHoles, TOOLS } from "./tools.js";
import { activeTarget, on, state, tell } from "./state.js";
import { complain } from "./say.js";
import { panes } from "./viewer.js";

let offered = null;

function rail() {
  const tools = TOOLS.map((tool) =>
    el(
      "button",
      {
        type: "button",
        class: "tool",
        "data-tool": tool.name,
        tabindex: "-1",
        "aria-label": tool.label,
        "aria-keyshortcuts": tool.key,
        title: `${tool.label} (${tool.key.toUpperCase()})`,
        on: { click: () => chooseTool(tool.name) },
      },
      icon(tool.icon),
    ),
  );
  const fill = el(
    "button",
    {
      type: "button",
      class: "tool",
      id: "fill-holes",
      tabindex: "-1",
      "aria-label": "Fill holes",
      "aria-keyshortcuts": "h",
      title: "Fill holes of the selected target (H)",
      on: { click: () => fillHoles(panes[0]) },
    },
    icon("fill"),
  );
  const bar = $("#rail");
  // What changes the mask stands apart from what only looks.
  bar.append(...tools.slice(0, 6), fill, el("hr"), ...tools.slice(6));
  // One stop for Tab, arrows within: a rail of eleven stops would be in everybody's way.
  bar.addEventListener("keydown", (event) => {
    const buttons = [...bar.querySelectorAll("button")];
    const k = buttons.indexOf(document.activeElement);
    const by = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (k < 0 || !by) return;
    event.preventDefault();
    buttons[(k + by + buttons.length) % buttons.length].focus();
  });
}

function renderTool() {
  for (const button of $("#rail").querySelectorAll("[data-tool]")) {
    const chosen = button.dataset.tool === state.tool;
    button.setAttribute("aria-pressed", String(chosen));
    button.tabIndex = chosen ? 0 : -1;
  }
  $("#panes").dataset.tool = state.tool;
  const sides = ["point", "scribble"].includes(state.tool);
  const brush = ["brush", "erase"].includes(state.tool);
  const label = TOOLS.find((tool) => tool.name === state.tool).label.split(":")[0];
  const parts = [el("span", { class: "options-name", text: label })];
  if (sides) {
    const radio = (inside, words) =>
      el(
        "label",
        {},
        el("input", {
          type: "radio",
          name: "side",
          checked: state.inside === inside,
          on: {
            change: () => {
              state.inside = inside;
            },
          },
        }),
        el("span", { text: words }),
      );
    parts.push(
      el("fieldset", { class: "segmented", "aria-label": "Click" }, radio(true, "+ Add"), radio(false, "− Remove")),
    );
  }
  if (brush) {
    const words = el("output", { for: "radius", text: `${state.radius} px` });
    parts.push(
      el("label", { for: "radius", text: "Radius" }),
      el("input", {
        type: "range",
        id: "radius",
        min: "1",
        max: "60",
        step: "0.5",
        value: state.radius,
        on: {
          input: (event) => {
            state.radius = Number(event.target.value);
            words.textContent = `${state.radius} px`;
          },
        },
      }),
      words,
    );
  }
  if (state.tool === "measure" && state.tapes.length) {
    parts.push(
      el("button", {
        type: "button",
        class: "button small quiet",
        text: "Clear",
        on: {
          click: () => {
            state.tapes = [];
            tell("marks");
            renderTool();
          },
        },
      }),
    );
  }
  $("#tool-options").replaceChildren(...parts);
}

/** The target's candidates in the plane that is shown, if the last prompt there left a choice. */
function renderCandidates() {
  const [pane] = panes;
  const target = activeTarget();
  const layer = target && pane?.layers.find((one) => one.target.id === target.id)?.layer;
  const count = layer?.candidates ?? 0;
  offered = count > 1 ? { place: { axis: pane.axis, k: pane.drawn.k }, target, count } : null;
  state.preview = null;
  const place = $("#candidates");
  place.hidden = !offered;
  if (!offered) return;
  if (place.querySelectorAll("button").length === count) return;
  place.replaceChildren(
    el("span", { text: "Other answers" }),
    ...Array.from({ length: count }, (_, i) =>
      el("button", {
        type: "button",
        class: "button small",
        text: String(i + 1),
        "aria-label": `Take candidate ${i + 1}`,
        title: `Take this one (${i + 1})`,
        on: {
          click: () => take(i),
          pointerenter: () => preview(i),
          focus: () => preview(i),
          pointerleave: () => preview(null),
          blur: () => preview(null),
        },
      }),
    ),
  );
}

function take(i) {
  if (!offered || i >= offered.count) return;
  preview(null);
  edit(offered.place, "choose", { candidate: i });
}

/** Show a candidate in white before it is taken. */
async function preview(i) {
  state.preview = null;
  if (i !== null && offered) {
    const { place, target } = offered;
    const wanted = { ...place, i };
    state.preview = wanted;
    try {
      const query = new URLSearchParams({ axis: place.axis, plane: place.k });
      const reply = await api.get(`/scans/${state.scan.id}/targets/${target.id}/candidates?${query}`);
      if (state.preview !== wanted) return;
      wanted.mask = unpack((reply.masks ?? reply)[i]);
    } catch (error) {
      complain(error);
    }
  }
  tell("marks");
}

export function setUpOptions() {
  rail();
  $("#options").append(
    el("div", { class: "option-set", id: "tool-options" }),
    el("div", { class: "option-set", id: "candidates", role: "group", "aria-label": "Candidates", hidden: true }),
  );
  for (const i of [0, 1, 2]) {
    KEYS.push({
      key: String(i + 1),
      group: "Mask",
      words: `Take the segmenter's candidate ${i + 1}`,
      run: () => take(i),
      ready: () => offered !== null,
    });
  }
  on("tool panes", renderTool);
  on("drawn targets panes", renderCandidates);
}
