// The page, put together.

import * as api from "./api.js";
import { setUpAsk } from "./ask.js";
import { setUpBar } from "./bar.js";
import { setUpCompare } from "./compare.js";
import { setUpDisplay } from "./display.js";
import { $ } from "./dom.js";
import { watchEdits } from "./edits.js";
import { setUpHelp } from "./help.js";
import { watchKeys } from "./keys.js";
import { setUpOpen } from "./open.js";
import { setUpOptions } from "./options.js";
import { listenAll } from "./pointer.js";
import { calm, complain } from "./say.js";
import { openScan, placeOf, setUpScans } from "./scans.js";
import { setUpSlices } from "./slices.js";
import { on, state, tell } from "./state.js";
import { setUpSurface } from "./surface.js";
import { setUpTake } from "./take.js";
import { setUpTargets } from "./targets.js";
import { watchViewer } from "./viewer.js";
import { resume, setUpWorklist } from "./worklist.js";

async function begin() {
  $("#alert-close").addEventListener("click", calm);
  const place = placeOf(location.hash);
  state.about = await api.get("/about");
  setUpBar();
  setUpScans();
  setUpOptions();
  setUpAsk();
  setUpTargets();
  setUpDisplay();
  setUpTake();
  setUpSlices();
  setUpOpen();
  setUpHelp();
  setUpCompare();
  setUpSurface();
  on("panes", listenAll);
  watchViewer();
  watchEdits();
  watchKeys();
  tell("tool");
  state.scans = await api.get("/scans");
  await setUpWorklist();
  const scan = state.scans.find((each) => each.id === place?.scan);
  const ready = scan && !scan.error;
  if (!ready) {
    tell("scan");
    if (place) complain(scan?.error ?? "The scan of this address is not open in this browser any more; open it again.");
  } else if (!(await resume(scan, place))) {
    await openScan(scan, place);
  }
  document.documentElement.dataset.ready = "true";
}

globalThis.addEventListener("error", (event) => complain(event.error ?? event.message));
globalThis.addEventListener("unhandledrejection", (event) => complain(event.reason));

begin().catch((error) => {
  complain(error);
  on("back", () => location.reload());
});
