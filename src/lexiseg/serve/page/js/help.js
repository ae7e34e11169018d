// The overlay that lists every key and what the mouse does.

import { $, el } from "./dom.js";
import { KEYS } from "./keys.js";
import { on, state } from "./state.js";

const MOUSE = [
  ["Click", "Add to the mask"],
  ["Right click, or Alt and click", "Take away from the mask"],
  ["Drag with the point tool", "Ask for what a box holds"],
  ["Right drag", "Window: sideways contrast, up and down brightness"],
  ["Middle drag, or Shift and drag", "Move the picture"],
  ["Wheel", "Slices of a volume; with Ctrl, or of a picture, zoom"],
  ["Two fingers", "Zoom and move"],
];
const BOARD = [
  ["Arrow keys", "Move the crosshair, with Shift by ten pixels"],
  ["Enter", "Add a point there; begin and end a box, scribble, stroke or measure"],
  ["Alt+Enter", "Remove there"],
  ["Home, End", "First and last slice"],
  ["Ctrl+Z, Ctrl+Shift+Z", "Undo and redo"],
  ["Escape", "Leave a drawing, close a message"],
];

const list = (title, rows) =>
  el(
    "section",
    { class: "help-group" },
    el("h3", { text: title }),
    el(
      "dl",
      {},
      ...rows.flatMap(([keys, words]) => [el("dt", {}, el("kbd", { text: keys })), el("dd", { text: words })]),
    ),
  );

function open() {
  const groups = [...new Set(KEYS.map((key) => key.group))];
  const shown = groups.filter((group) => group !== "Worklist" || state.worklist);
  const dialog = $("#help");
  dialog.replaceChildren(
    el("h2", { id: "help-title", tabindex: "-1", autofocus: true, text: "Keys and mouse" }),
    el(
      "div",
      { class: "help-columns" },
      list("Mouse", MOUSE),
      list("On the scan", BOARD),
      ...shown.map((group) =>
        list(
          group,
          KEYS.filter((key) => key.group === group).map(({ key, words }) => [
            key.length === 1 ? key.toUpperCase() : key,
            words,
          ]),
        ),
      ),
    ),
    el(
      "form",
      { method: "dialog", class: "row spread" },
      el(
        "label",
        { class: "check" },
        el("input", {
          type: "checkbox",
          checked: state.singleKeys,
          on: {
            change: (event) => {
              state.singleKeys = event.target.checked;
            },
          },
        }),
        el("span", { text: "Single keys do things" }),
      ),
      el("button", { class: "button primary", text: "Close" }),
    ),
  );
  dialog.showModal();
}

export function setUpHelp() {
  on("help", open);
}
