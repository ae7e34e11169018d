// Two presets on one scan, side by side, with one zoom and one slice.

import { $, el } from "./dom.js";
import { ask } from "./ask.js";
import { layout } from "./bar.js";
import { activeTarget, on, state } from "./state.js";

function choose() {
  const { presets } = state.about;
  const dialog = $("#comparing");
  const select = (id, words, value) =>
    el(
      "label",
      { class: "stack" },
      el("span", { text: words }),
      el(
        "select",
        { id, class: "input select" },
        ...presets.map(({ name, about }) =>
          el("option", { value: name, text: name, title: about, selected: name === value }),
        ),
      ),
    );
  const used = activeTarget()?.preset ?? state.scan.preset ?? state.about.preset;
  const other = presets.find(({ name }) => name !== used)?.name;
  const phrase = el("input", {
    id: "compare-phrase",
    class: "input",
    value: $("#phrase").value || activeTarget()?.name || "",
  });
  const go = async () => {
    state.compare = [$("#compare-left").value, $("#compare-right").value];
    const words = phrase.value.trim();
    dialog.close();
    layout("compare");
    for (const preset of new Set(state.compare)) {
      const there = state.scan.targets.some((target) => target.phrase === words && target.preset === preset);
      if (words && !there) await ask(words, preset);
    }
  };
  dialog.replaceChildren(
    el("h2", { id: "comparing-title", text: "Compare two presets" }),
    el(
      "form",
      {
        class: "form",
        on: {
          submit: (event) => {
            event.preventDefault();
            go();
          },
        },
      },
      select("compare-left", "Left", used),
      select("compare-right", "Right", other),
      el("label", { class: "stack" }, el("span", { text: "Phrase, asked of both" }), phrase),
      el(
        "div",
        { class: "row end" },
        el("button", { type: "button", class: "button", text: "Cancel", on: { click: () => dialog.close() } }),
        el("button", { type: "submit", class: "button primary", text: "Compare" }),
      ),
    ),
  );
  dialog.showModal();
}

export function setUpCompare() {
  on("comparing", () => {
    if (state.layout === "compare") layout("one");
    else choose();
  });
}
