// The scans of this session: which is open, and how it is left and found again.

import * as api from "./api.js";
import { Space } from "../core/space.js";
import { $, el, iconButton } from "./dom.js";
import { resetWindow } from "./display.js";
import { on, state, takeScan, tell } from "./state.js";
import { complain, note, sure } from "./say.js";
import { arrange, clear, hasPlanes } from "./viewer.js";

/** Show a scan. */
export async function openScan(scan, at = null) {
  const known = state.scans.find((each) => each.id === scan.id);
  if (!known) takeScan(scan);
  clear();
  state.scan = known ?? scan;
  state.space = new Space(state.scan.axes);
  state.main = state.scan.acquired;
  state.active = state.scan.targets.at(-1)?.id ?? null;
  state.pending = [];
  state.tapes = [];
  state.preview = null;
  state.hover = null;
  if (state.layout === "three" && !hasPlanes()) state.layout = "one";
  startAt(at);
  resetWindow();
  tell("scan");
  tell("display");
  arrange();
  keepPlace();
}

/** Begin where the reader left, else at the middle of what was found, else in the middle. */
function startAt(at) {
  const { scan, space } = state;
  const axis = at?.axis && scan.axes[at.axis] ? at.axis : scan.acquired;
  state.main = axis;
  if (at?.axis === axis && Number.isInteger(at.k)) {
    space.move(axis, { k: at.k });
    return;
  }
  const found = scan.targets.at(-1)?.slices?.[axis] ?? [];
  if (found.length) space.move(axis, { k: found[Math.floor(found.length / 2)] });
}

/** The address says which scan and slice is shown, so that a reload comes back to them. */
function keepPlace() {
  if (!state.scan) {
    history.replaceState(null, "", location.pathname);
    return;
  }
  const { k } = state.space.see(state.main);
  history.replaceState(null, "", `#scan=${state.scan.id}&axis=${encodeURIComponent(state.main)}&k=${k}`);
}

export function placeOf(hash) {
  const found = new URLSearchParams(hash.replace(/^#/, ""));
  if (!found.has("scan")) return null;
  return { scan: found.get("scan"), axis: found.get("axis"), k: Number.parseInt(found.get("k"), 10) };
}

/** Back to the page where scans are dropped. */
export function closeScan() {
  clear();
  state.scan = null;
  state.item = null;
  tell("scan");
  keepPlace();
}

async function discard(scan) {
  try {
    await api.send("DELETE", `/scans/${scan.id}`);
    state.scans = state.scans.filter((each) => each.id !== scan.id);
    if (state.scan?.id === scan.id) closeScan();
    renderScans();
    note(`${scan.name} is closed and its files are removed.`);
  } catch (error) {
    complain(error);
  }
}

export function renderScans() {
  const list = $("#scan-list");
  if (!list) return;
  // Scans of the worklist stand there.
  const own = state.scans.filter((scan) => !scan.item);
  list.replaceChildren(
    ...own.map((scan) =>
      el(
        "li",
        { class: "scan-row" },
        el(
          "button",
          {
            type: "button",
            class: "scan-open",
            "aria-current": scan.id === state.scan?.id ? "true" : null,
            disabled: Boolean(scan.error),
            on: {
              click: () => {
                state.item = null;
                openScan(scan);
              },
            },
          },
          el("span", { class: "scan-title", text: scan.name }),
          el("span", {
            class: "dim small-text",
            text: scan.error ?? [scan.modality, (scan.shape ?? []).join(" × ")].filter(Boolean).join(" · "),
          }),
        ),
        iconButton("close", `Close ${scan.name} and remove its files`, () => confirmDiscard(scan)),
      ),
    ),
  );
  $("#scan-none").hidden = own.length > 0;
}

/** A scan with work on it asks once more before it goes. */
async function confirmDiscard(scan) {
  const worked = (scan.targets ?? []).length > 0;
  if (!worked || (await sure(`Close ${scan.name}? Its masks and edits go with it.`, "Close it"))) discard(scan);
}

const short = (mm) => Number(mm.toPrecision(3));

/** How far apart slices are, of their least and largest distance. */
function apart(distances) {
  if (!distances) return "";
  const [least, most] = distances.map(short);
  return least === most ? `${least} mm apart` : `${least} to ${most} mm apart, drawn evenly`;
}

function facts() {
  const { scan } = state;
  const axis = scan.axes[scan.acquired];
  const rows = [
    ["Kind", [scan.kind, scan.modality].filter(Boolean).join(", ")],
    ["Size", (scan.shape ?? []).join(" × ")],
    ["Pixel", axis?.spacing ? axis.spacing.map(short).join(" × ") + " mm" : "size unknown: lengths are in pixels"],
    ["Slices", apart(scan.distances)],
    ["Window", scan.window?.about ?? ""],
  ].filter(([, words]) => words);
  $("#facts").replaceChildren(
    ...rows.flatMap(([name, words]) => [el("dt", { text: name }), el("dd", { text: words })]),
  );
  $("#notes").replaceChildren(...(scan.notes ?? []).map((line) => el("li", { text: line })));
}

export function setUpScans() {
  on("scan", () => {
    const open = state.scan !== null;
    for (const id of ["#rail", "#panel", "#panes", "#slices", "#options", "#history", "#layouts"]) $(id).hidden = !open;
    $("#start").hidden = open;
    document.body.classList.toggle("reading", open);
    $("#scan-name").textContent = open ? state.scan.name : "";
    document.title = open ? `${state.scan.name} · lexiseg` : "lexiseg";
    if (open) facts();
    renderScans();
  });
  on("moved panes", () => {
    if (state.scan) keepPlace();
  });
}
