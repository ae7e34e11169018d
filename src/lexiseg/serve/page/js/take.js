// What a person takes away: files of the masks, and the command and the Python that give the same answer.

import * as api from "./api.js";
import { $, el, icon } from "./dom.js";
import { activeTarget, on, state } from "./state.js";
import { busy, calm, complain, note } from "./say.js";

const WORDS = {
  png: "PNG",
  nifti: "NIfTI",
  nrrd: "NRRD",
  "dicom-seg": "DICOM SEG",
  rtstruct: "RTSTRUCT",
  coco: "COCO",
  overlay: "Overlay picture",
  stl: "STL surface",
};

const formats = () => (state.about.formats ?? []).map((each) => (typeof each === "string" ? { name: each } : each));

async function download(format, button) {
  const { scan } = state;
  const chosen = $("[name=which]:checked").value === "one" ? activeTarget() : null;
  const query = new URLSearchParams({ format });
  if (chosen) query.set("targets", chosen.id);
  button.disabled = true;
  try {
    const { blob, name } = await busy(api.file(`/scans/${scan.id}/export?${query}`));
    const link = el("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    note(`Saved ${name}`);
    calm();
  } catch (error) {
    complain(error);
  } finally {
    button.disabled = false;
  }
}

async function copy(text, words) {
  try {
    await navigator.clipboard.writeText(text);
    note(`Copied: ${words}`);
  } catch {
    note("The browser does not allow copying here: select the text and copy it.");
  }
}

/** Show texts to be read and copied: [what it is, the text] each. */
export function showSnippets(title, texts) {
  const dialog = $("#snippets");
  const block = ([words, text]) =>
    el(
      "div",
      { class: "snippet" },
      el(
        "div",
        { class: "card-head" },
        el("h3", { text: words }),
        el(
          "button",
          { type: "button", class: "button small", on: { click: () => copy(text, words) } },
          icon("copy"),
          "Copy",
        ),
      ),
      el("pre", { tabindex: "0", role: "group", "aria-label": words, text }),
    );
  dialog.replaceChildren(
    el("h2", { id: "snippets-title", text: title }),
    ...texts.map(block),
    el("form", { method: "dialog" }, el("button", { class: "button", text: "Close" })),
  );
  dialog.showModal();
}

/** The command and the Python that give this answer. */
async function snippets() {
  const { scan } = state;
  try {
    const { command, python } = await api.get(`/scans/${scan.id}/command`);
    showSnippets("The same answer elsewhere", [
      ["Command", command],
      ["Python", python],
    ]);
  } catch (error) {
    complain(error);
  }
}

export function setUpTake() {
  const radio = (value, words, checked) =>
    el("label", {}, el("input", { type: "radio", name: "which", value, checked }), el("span", { text: words }));
  $("#take").append(
    el(
      "fieldset",
      { class: "segmented wide", "aria-label": "Which targets" },
      radio("all", "All targets", true),
      radio("one", "Selected target", false),
    ),
    el(
      "div",
      { class: "grid", id: "formats" },
      ...formats().map(({ name, label }) =>
        el(
          "button",
          {
            type: "button",
            class: "button small",
            "data-format": name,
            on: { click: (event) => download(name, event.currentTarget) },
          },
          icon("down"),
          label ?? WORDS[name] ?? name,
        ),
      ),
    ),
    el(
      "button",
      { type: "button", class: "button small wide", id: "copy-as", on: { click: snippets } },
      icon("copy"),
      "Copy as command or Python",
    ),
  );
  on("scan targets", () => {
    const none = !state.scan?.targets.length;
    for (const button of $("#take").querySelectorAll("button")) button.disabled = none;
  });
}
