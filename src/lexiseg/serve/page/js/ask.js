// The phrase: suggestions by keyboard, and an answer that is waited for with its progress.

import * as api from "./api.js";
import { forget } from "./data.js";
import { $, el } from "./dom.js";
import { reload } from "./edits.js";
import { on, state, tell } from "./state.js";
import { calm, complain, note } from "./say.js";

let chosen = -1;
let found = [];
let running = null;

const known = () => state.about.targets ?? [];
const modalityOf = (target) => [target.modality ?? []].flat().filter(Boolean);

/** Phrases that fit what is typed, those of the scan's own modality first. */
function fitting(text) {
  const words = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const own = (target) => modalityOf(target).some((name) => same(name, state.scan?.modality));
  const fits = known().filter((target) => {
    const hay = [target.phrase, ...(target.kinds ?? [])].join(" ").toLowerCase();
    return words.every((word) => hay.includes(word));
  });
  return fits.sort((a, b) => Number(own(b)) - Number(own(a))).slice(0, 8);
}

// DICOM's codes, as people say them.
const CODES = { mr: "mri", us: "ultrasound", cr: "xray", dx: "xray" };
const plain = (name) => {
  const letters = name.toLowerCase().replace(/[^a-z0-9]/g, "");
  return CODES[letters] ?? letters;
};
/** Whether a scan's modality ("breast-ultrasound", "MR") is one of a phrase's ("ultrasound", "MRI"). */
const same = (ofPhrase, ofScan) => Boolean(ofPhrase && ofScan) && plain(ofScan).endsWith(plain(ofPhrase));

function suggest(open = true) {
  const list = $("#suggestions");
  const field = $("#phrase");
  found = open ? fitting(field.value) : [];
  if (found.length === 1 && found[0].phrase === field.value.trim()) found = [];
  chosen = -1;
  list.replaceChildren(
    ...found.map((target, i) =>
      el(
        "li",
        {
          role: "option",
          id: `suggestion-${i}`,
          class: "suggestion",
          "aria-selected": "false",
          on: {
            pointerdown: (event) => {
              event.preventDefault();
              take(i, true);
            },
          },
        },
        el("span", { text: target.phrase }),
        el("span", { class: "dim", text: modalityOf(target).join(", ") }),
      ),
    ),
  );
  list.hidden = !found.length;
  field.setAttribute("aria-expanded", String(Boolean(found.length)));
  field.removeAttribute("aria-activedescendant");
}

function highlight(i) {
  const options = $("#suggestions").children;
  chosen = (i + options.length) % options.length;
  [...options].forEach((option, k) => option.setAttribute("aria-selected", String(k === chosen)));
  options[chosen].scrollIntoView({ block: "nearest" });
  $("#phrase").setAttribute("aria-activedescendant", `suggestion-${chosen}`);
}

function take(i, ask) {
  $("#phrase").value = found[i].phrase;
  suggest(false);
  hint();
  if (ask) submit();
}

const spoken = (modality) => modality.replaceAll("-", " ");

/** Say where the phrase is known, if that is not where this scan comes from. */
function hint() {
  const text = $("#phrase").value.trim().toLowerCase();
  const target = known().find((each) => each.phrase.toLowerCase() === text);
  const places = target ? modalityOf(target) : [];
  const elsewhere = places.length && state.scan?.modality && !places.some((name) => same(name, state.scan.modality));
  $("#modality-hint").textContent = elsewhere
    ? `The models know “${target.phrase}” in ${places.join(", ")}; this scan is ${spoken(state.scan.modality)}.`
    : target && places.length
      ? `Known in ${places.join(", ")}.`
      : "";
}

async function submit() {
  const field = $("#phrase");
  const phrase = field.value.trim();
  suggest(false);
  if (!phrase) {
    note("Type what to find, for example brain tumor.");
    field.focus();
    return;
  }
  const most = state.about.limits?.phrase;
  if (most && phrase.length > most) {
    complain(`The phrase has ${phrase.length} characters; expected at most ${most}.`);
    return;
  }
  const presets = state.layout === "compare" ? [...new Set(state.compare)] : [$("#preset").value];
  for (const preset of presets) await ask(phrase, preset);
}

/** Ask for a phrase; the answer is a target of its own. */
export async function ask(phrase, preset) {
  const { scan } = state;
  if (running) {
    note("One phrase at a time: wait for the answer, or cancel it.");
    return;
  }
  const stop = new AbortController();
  running = { stop };
  progress({ text: "sending" });
  try {
    const { job } = await api.send("POST", `/scans/${scan.id}/ask`, preset ? { phrase, preset } : { phrase });
    running.job = job;
    const end = await api.follow(job, progress, stop.signal);
    if (end.state === "cancelled") {
      note("Cancelled.");
      return;
    }
    forget(scan);
    const fresh = await reload(scan);
    if (state.scan?.id !== scan.id) return;
    const id = typeof end.target === "object" && end.target ? end.target.id : end.target;
    const target = fresh.targets.find((each) => each.id === id) ?? fresh.targets.at(-1);
    if (target) {
      state.active = target.id;
      tell("targets");
      tell("answered", target);
      note(`${target.name}: ${target.words ?? target.verdict}`, 6);
    }
    calm();
  } catch (error) {
    if (error.name !== "AbortError") complain(error);
  } finally {
    running = null;
    progress(null);
  }
}

function progress(event) {
  $("#job").hidden = event === null;
  $("#ask-go").disabled = event !== null;
  if (!event) return;
  const bar = $("#job-bar");
  if (event.total && event.state === "running" && event.done > 0) {
    bar.max = event.total;
    bar.value = event.done;
  } else {
    bar.removeAttribute("value");
  }
  const words = event.text ? event.text[0].toUpperCase() + event.text.slice(1) : "Working";
  $("#job-text").textContent = event.state === "queued" ? `${words}: waiting for another answer` : words;
}

async function cancel() {
  if (!running) return;
  const { job, stop } = running;
  try {
    if (job) await api.send("DELETE", `/jobs/${job}`);
    else stop.abort();
  } catch (error) {
    complain(error);
    stop.abort();
  }
}

export function setUpAsk() {
  const field = $("#phrase");
  field.addEventListener("input", () => {
    suggest();
    hint();
  });
  field.addEventListener("focus", () => suggest());
  field.addEventListener("blur", () => suggest(false));
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!found.length) suggest();
      if (found.length) highlight(chosen + (event.key === "ArrowDown" ? 1 : chosen < 0 ? 0 : -1));
      event.preventDefault();
    } else if (event.key === "Enter" && chosen >= 0) {
      event.preventDefault();
      take(chosen, true);
    } else if (event.key === "Escape" && found.length) {
      event.preventDefault();
      suggest(false);
    } else if (event.key === "Escape") {
      field.blur();
    }
  });
  $("#ask").addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  $("#job-cancel").addEventListener("click", cancel);
  const presets = state.about.presets ?? [];
  $("#preset").replaceChildren(
    ...presets.map(({ name, about }) => el("option", { value: name, text: name, title: about })),
  );
  if (state.about.preset) $("#preset").value = state.about.preset;
  $("#preset-row").hidden = presets.length < 2;
  on("scan", () => {
    suggest(false);
    hint();
  });
}
