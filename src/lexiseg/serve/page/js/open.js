// Files, folders and zips by drop or choice, and phantoms to try.

import * as api from "./api.js";
import { $, el, icon } from "./dom.js";
import { openScan } from "./scans.js";
import { state, takeScan, tell } from "./state.js";
import { busy, calm, complain } from "./say.js";
import { ask } from "./ask.js";

let sending = false;

/** Send files and open the first scan of them. */
async function sendFiles(files) {
  if (!files.length || sending) return;
  const limits = state.about.limits ?? {};
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  if (limits.files && files.length > limits.files) {
    complain(
      `There are ${files.length} files; expected at most ${limits.files}: choose a smaller folder, or one series.`,
    );
    return;
  }
  if (limits.bytes && total > limits.bytes) {
    complain(
      `The files have ${mega(total)} MB; expected at most ${mega(limits.bytes)} MB. ` +
        "The command lexiseg segment takes larger ones.",
    );
    return;
  }
  sending = true;
  const bar = $("#upload");
  bar.hidden = false;
  bar.value = 0;
  try {
    const { scans, refused } = await busy(
      api.upload(files, (share) => {
        if (share < 1) bar.value = share;
        else bar.removeAttribute("value");
      }),
    );
    scans.forEach(takeScan);
    calm();
    if (scans.length) await openScan(scans[0]);
    if (scans.length > 1) tell("drawer", true);
    if (refused?.length) complain(refused[0] + (refused.length > 1 ? ` (and ${refused.length - 1} more files)` : ""));
  } catch (error) {
    complain(error);
  } finally {
    sending = false;
    bar.hidden = true;
  }
}

const mega = (bytes) => Math.ceil(bytes / 2 ** 20);

/** Open a phantom, and ask for what it shows. */
async function tryPhantom({ id, phrase }) {
  try {
    const { scans } = await busy(api.send("POST", "/scans", { phantom: id }));
    scans.forEach(takeScan);
    calm();
    await openScan(scans[0]);
    $("#phrase").value = phrase ?? "";
    if (phrase) await ask(phrase, $("#preset").value);
  } catch (error) {
    complain(error);
  }
}

/** All files of what was dropped, folders with their relative names. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const found = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push({ file, name: path + file.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      // A reader gives a hundred at a time, and none at the end.
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) break;
      for (const each of some) await walk(each, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return found;
}

const chosen = (input) => [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));

export function pickFiles() {
  $("#files").click();
}

export function setUpOpen() {
  $("#pick-files").addEventListener("click", pickFiles);
  $("#pick-folder").addEventListener("click", () => $("#folder").click());
  for (const input of [$("#files"), $("#folder")]) {
    input.addEventListener("change", async () => {
      const files = chosen(input);
      input.value = "";
      await sendFiles(files);
    });
  }
  const veil = $("#veil");
  let depth = 0;
  const lift = () => {
    depth = 0;
    veil.hidden = true;
  };
  document.addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    depth += 1;
    veil.hidden = false;
  });
  document.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) lift();
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    lift();
    try {
      await sendFiles(await dropped(event.dataTransfer));
    } catch (error) {
      complain(error);
    }
  });
  if (state.about.reads) $("#reads").textContent = state.about.reads;
  const phantoms = state.about.phantoms ?? [];
  $("#phantoms").hidden = !phantoms.length;
  $("#cards").replaceChildren(
    ...phantoms.map((phantom) =>
      el(
        "button",
        { type: "button", class: "phantom", "data-phantom": phantom.id, on: { click: () => tryPhantom(phantom) } },
        icon("scan"),
        el("span", { class: "phantom-title", text: phantom.title }),
        el("span", { class: "dim", text: phantom.phrase ? `“${phantom.phrase}”` : "" }),
      ),
    ),
  );
}
