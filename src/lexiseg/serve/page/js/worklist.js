// The drawer: scans of this session, and a worklist that is gone through with single keys.

import * as api from "./api.js";
import { $, clock, el, icon, two } from "./dom.js";
import { forget } from "./data.js";
import { reload, unsettled } from "./edits.js";
import { KEYS } from "./keys.js";
import { openScan, renderScans } from "./scans.js";
import { on, state, takeScan, tell } from "./state.js";
import { busy, calm, complain, note } from "./say.js";
import { pickFiles } from "./open.js";
import { showSnippets } from "./take.js";

const STATES = {
  failed: "warning",
  todo: "todo",
  accepted: "accept",
  corrected: "correct",
  rejected: "reject",
  skipped: "skip",
};
const VERDICTS = [
  ["a", "accepted", "Accept", "accept"],
  ["c", "corrected", "Correct", "correct"],
  ["r", "rejected", "Reject", "reject"],
  ["s", "skipped", "Skip", "skip"],
];

/** Where the seconds of scans without a verdict are kept, so that a reload or another scan in between loses none. */
const SPENT = "lexiseg-seconds";

let begun = 0;
let timed = null;
let spent = {};
let changed = false;
let sending = false;

/** Seconds that the scan was looked at; a hidden page does not count. */
const seconds = () => (spent[timed] ?? 0) + (begun ? (performance.now() - begun) / 1000 : 0);

/** Stop counting, and keep what was counted. */
function stop() {
  if (begun) spent[timed] = seconds();
  begun = 0;
  try {
    sessionStorage.setItem(SPENT, JSON.stringify(spent));
  } catch {
    // A browser that keeps nothing forgets them at a reload.
  }
}

function counted() {
  try {
    return JSON.parse(sessionStorage.getItem(SPENT) ?? "{}");
  } catch {
    return {};
  }
}

function pause(stopped) {
  if (stopped) stop();
  else if (!begun && state.item) begun = performance.now();
}

/** Count the seconds of a scan from now on. */
function time(scan) {
  stop();
  timed = scan;
  begun = document.visibilityState === "hidden" ? 0 : performance.now();
}

let polling = 0;

async function load() {
  clearTimeout(polling);
  state.worklist = await api.get("/worklist");
  render();
  const { error, segmented, total } = state.worklist;
  if (error) complain(error);
  // Models are still at it: the list fills as they go.
  else if (segmented < total) polling = setTimeout(() => load().catch(complain), 3000);
}

/** Why no scan was given, as the list has it now. */
function nothingLeft({ items, segmented, total }) {
  if (segmented < total) return "The next scan is not ready yet: the models are still looking. Press N in a moment.";
  const failed = items.filter((item) => item.state === "failed").length;
  const unread = failed ? ` ${failed} cannot be read; the list says why.` : "";
  const elsewhere = items.some((item) => item.state === "todo" && item.taken_by_other);
  return `Nothing is left to review${elsewhere ? " but what somebody else has open" : ""}.${unread}`;
}

async function show({ item, scan }, at = null) {
  if (!scan) {
    state.item = null;
    await load();
    note(nothingLeft(state.worklist), 8);
    return;
  }
  state.item = item ?? state.worklist.items.find((each) => each.id === scan.item);
  time(scan.id);
  changed = false;
  takeScan(scan);
  await openScan(scan, at);
  await load();
  calm();
}

/** Take the next scan that nobody has open: the doubtful first. */
export async function next() {
  try {
    await show(await busy(api.send("POST", "/worklist/next")));
  } catch (error) {
    complain(error);
  }
}

async function open(item, at = null) {
  try {
    const reply = await busy(api.send("POST", `/worklist/${encodeURIComponent(item.id)}/open`));
    await show({ item, scan: reply.scan ?? reply }, at);
  } catch (error) {
    complain(error);
  }
}

/** Take a scan of the list up again, at its slice, that was open before the page was loaded; whether there is one. */
export async function resume(scan, at) {
  const item = state.worklist?.items.find((each) => scan.item && each.name === scan.item && !closed(each));
  if (!item) return false;
  await open(item, at);
  if (!state.scan) tell("scan");
  return true;
}

/** Give the open scan a verdict, and go on to the next. */
async function verdict(word) {
  const { item } = state;
  if (!item || sending) return;
  // Also what was changed before the page was loaded again.
  const touched = changed || state.scan.targets.some((target) => target.edited);
  if (word === "corrected" && !touched) {
    note("Nothing was changed yet: click to add, right click to take away, then press C.", 6);
    return;
  }
  if (word === "accepted" && touched) {
    note("The mask was changed: press C to give the corrected one, or undo the changes first.", 6);
    return;
  }
  if (unsettled()) {
    note("The last change is still on its way; press the key again.");
    return;
  }
  sending = true;
  try {
    const told = await api.send("POST", `/worklist/${encodeURIComponent(item.id)}/verdict`, {
      verdict: word,
      scan: state.scan.id,
      version: state.scan.version,
      seconds: Math.round(10 * seconds()) / 10,
    });
    begun = 0;
    delete spent[timed];
    stop();
    state.item = null;
    await next();
    if (told.note) complain(told.note);
  } catch (error) {
    complain(error);
    if (error.status === 409) await seeAgain();
  } finally {
    sending = false;
  }
}

/** What another tab did to the scan is to be seen before it is judged. */
async function seeAgain() {
  try {
    forget(state.scan);
    await reload();
  } catch {
    // It was closed: the refusal said so.
  }
}

/** Whether a scan cannot be opened: somebody else has it, it cannot be read, or the models have not answered it. */
const closed = (item) => Boolean(item.taken_by_other) || item.state === "failed" || item.segmented === false;

function row(item) {
  const current = state.item?.id === item.id;
  const answer = [item.verdict, Number.isFinite(item.presence) ? two(item.presence) : ""].filter(Boolean).join(", ");
  const waits = item.state === "todo" && item.segmented === false ? "waiting for the models" : "";
  const words = [
    item.state === "todo" ? "" : item.state,
    waits,
    item.note ? "set aside" : "",
    item.error,
    answer,
    item.seconds ? clock(item.seconds) : "",
    item.taken_by_other ? "open elsewhere" : "",
  ];
  return el(
    "li",
    { class: `work-row ${item.state}${current ? " active" : ""}` },
    el(
      "button",
      {
        type: "button",
        class: "scan-open",
        "aria-current": current ? "true" : null,
        disabled: closed(item),
        title: item.error || item.note || null,
        on: { click: () => open(item) },
      },
      icon(STATES[item.state] ?? "todo"),
      el("span", { class: "scan-title", text: item.name }),
      el("span", { class: "dim small-text", text: words.filter(Boolean).join(" · ") }),
    ),
  );
}

function render() {
  const { worklist, item } = state;
  const place = $("#worklist");
  place.hidden = !worklist;
  if (!worklist) return;
  $("#work-progress").max = Math.max(1, worklist.total);
  $("#work-progress").value = worklist.done;
  const ready = worklist.segmented < worklist.total ? ` · ${worklist.segmented} answered by the models` : "";
  $("#work-words").textContent = `${worklist.done} of ${worklist.total} reviewed${ready}`;
  $("#work-export").hidden = !worklist.done;
  $("#work-list").replaceChildren(...worklist.items.map(row));
  $("#work-list .active")?.scrollIntoView({ block: "nearest" });
  const bar = $("#verdicts");
  bar.hidden = !item;
  $("#work-next").hidden = Boolean(item);
}

/** Have the server write what training takes, and say what to type. */
async function exportAll() {
  try {
    const { train, evaluate, left_out: lost } = await busy(api.send("POST", "/worklist/export"));
    showSnippets("The reviewed masks elsewhere", [
      ["Train a student", train.join("\n")],
      ["Compare before and after", evaluate.join("\n")],
    ]);
    if (lost.length) {
      complain(
        `${lost.length} reviewed scans are left out in whole or in part, the first is ${lost[0]}: ` +
          "the scan is not there as the run read it, or an empty mask has no file.",
      );
    }
  } catch (error) {
    complain(error);
  }
}

function toggle(open) {
  const drawer = $("#drawer");
  drawer.hidden = !open;
  $("#drawer-toggle").setAttribute("aria-expanded", String(open));
}

export async function setUpWorklist() {
  $("#drawer").append(
    el(
      "section",
      { class: "worklist", id: "worklist", "aria-labelledby": "work-title", hidden: true },
      el(
        "div",
        { class: "card-head" },
        el("h2", { id: "work-title", text: "Worklist" }),
        el("output", { class: "timer", id: "timer", "aria-label": "Time on this scan", text: "" }),
      ),
      el("progress", { id: "work-progress", "aria-labelledby": "work-words", value: "0" }),
      el("p", { class: "dim small-text", id: "work-words" }),
      el(
        "div",
        { class: "verdicts", id: "verdicts", role: "group", "aria-label": "Verdict", hidden: true },
        ...VERDICTS.map(([key, word, words, picture]) =>
          el(
            "button",
            {
              type: "button",
              class: `button small ${word}`,
              "aria-keyshortcuts": key,
              title: `${words} (${key.toUpperCase()})`,
              on: { click: () => verdict(word) },
            },
            icon(picture),
            words,
            el("kbd", { text: key.toUpperCase() }),
          ),
        ),
      ),
      el("button", {
        type: "button",
        class: "button primary wide",
        id: "work-next",
        text: "Begin with the most doubtful",
        on: { click: next },
      }),
      el("ol", { class: "list", id: "work-list" }),
      el(
        "button",
        { type: "button", class: "button small wide", id: "work-export", hidden: true, on: { click: exportAll } },
        icon("down"),
        "Manifest for training",
      ),
    ),
    el(
      "section",
      { "aria-labelledby": "scans-title" },
      el(
        "div",
        { class: "card-head" },
        el("h2", { id: "scans-title", text: "Open scans" }),
        el("button", { type: "button", class: "button small quiet", on: { click: pickFiles } }, icon("plus"), "Open"),
      ),
      el("ul", { class: "list", id: "scan-list" }),
      el("p", { class: "empty", id: "scan-none", text: "None yet. Drop a file anywhere on the page." }),
    ),
  );
  renderScans();
  const drawer = $("#drawer");
  $("#drawer-toggle").addEventListener("click", () => toggle(drawer.hidden));
  on("drawer", toggle);
  for (const [key, word] of VERDICTS) {
    KEYS.push({
      key,
      group: "Worklist",
      words: `${word[0].toUpperCase()}${word.slice(1)}; then the next scan`,
      run: () => verdict(word),
      ready: () => state.item !== null,
    });
  }
  KEYS.push({
    key: "n",
    group: "Worklist",
    words: "Open the next scan",
    run: next,
    page: true,
    ready: () => state.worklist !== null && state.item === null,
  });
  on("edited", (scan) => {
    if (state.item && state.scan?.id === scan) changed = state.scan.can_undo !== false;
  });
  on("scan", () => {
    if (!state.item) stop();
    render();
  });
  spent = counted();
  globalThis.addEventListener("pagehide", stop);
  document.addEventListener("visibilitychange", () => pause(document.visibilityState === "hidden"));
  setInterval(() => {
    $("#timer").textContent = state.item ? clock(seconds()) : "";
  }, 1000);
  if (!state.about.folder) return;
  try {
    await load();
    toggle(true);
  } catch (error) {
    complain(error);
  }
}
