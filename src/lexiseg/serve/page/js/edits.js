// What a person does to a mask: sent in order, shown when the server has answered, never lost without a word.

import * as api from "./api.js";
import { forget, takeChanges } from "./data.js";
import { $ } from "./dom.js";
import { activeTarget, on, state, takeScan, takeTarget, tell } from "./state.js";
import { busy, calm, complain, note } from "./say.js";

let queue = Promise.resolve();
let waiting = 0;

/** Do one thing after the other: an edit that overtakes another would be another edit. */
function inOrder(work) {
  waiting += 1;
  $("#stage").setAttribute("aria-busy", "true");
  const done = queue.then(work);
  queue = done
    .catch(() => {})
    .finally(() => {
      waiting -= 1;
      if (!waiting) $("#stage").setAttribute("aria-busy", "false");
    });
  return done;
}

/** Whether changes are on their way. */
export const unsettled = () => waiting > 0;

function remember({ can_undo: undo, can_redo: redo, version }) {
  if (version !== undefined) state.scan.version = version;
  if (undo !== undefined) state.scan.can_undo = undo;
  if (redo !== undefined) state.scan.can_redo = redo;
}

/** Take the server's answer to a change. */
function take(scan, reply, target) {
  if (state.scan?.id !== scan.id) return;
  remember(reply);
  const changed = reply.target ?? target;
  takeTargets(reply);
  if (reply.everything) forget(scan);
  else if (changed) takeChanges(scan, changed, reply.changed ?? {});
  tell("targets");
}

function takeTargets(reply) {
  if (reply.targets) {
    state.scan.targets = reply.targets;
    if (!activeTarget()) state.active = reply.targets.at(-1)?.id ?? null;
  } else if (reply.target) {
    takeTarget(reply.target);
  }
}

/** A target to edit: the active one, or a new one where the scan has none. */
async function subject(scan) {
  let target = activeTarget();
  if (!target) {
    const made = await api.send("POST", `/scans/${scan.id}/targets`, { name: freeName(scan) });
    if (state.scan?.id === scan.id) {
      takeTarget(made);
      remember(made);
      state.active = made.id;
      tell("targets");
    }
    target = made;
  }
  return target;
}

/** "target 1", or the next number that nothing is called. */
export function freeName(scan) {
  const taken = new Set(scan.targets.map((target) => target.name));
  let k = 1;
  while (taken.has(`target ${k}`)) k += 1;
  return `target ${k}`;
}

/**
 * Change the active target in a plane.
 * @param {{axis: string, k: number}} place
 * @param {string} kind of the server's edits.
 * @param {object} details
 * @param {object|null} mark drawn until the answer is here.
 */
export function edit(place, kind, details = {}, mark = null) {
  const { scan } = state;
  const current = activeTarget();
  if (current?.locked) {
    if (mark) drop(mark);
    note(`${current.name} is locked: unlock it in the list to change it.`);
    return Promise.resolve(null);
  }
  if (mark && !state.pending.includes(mark)) state.pending.push(mark);
  tell("marks");
  return busy(
    inOrder(async () => {
      try {
        const target = current ?? (await subject(scan));
        const reply = await api.send("POST", `/scans/${scan.id}/targets/${target.id}/edits`, {
          axis: place.axis,
          plane: place.k,
          kind,
          ...details,
        });
        if (reply.job) await finish(scan, reply.job, target);
        else take(scan, reply, target);
        state.lastEdit = { kind, ms: reply.ms };
        tell("edited", scan.id);
        calm();
        return reply;
      } catch (error) {
        complain(error);
        return null;
      } finally {
        if (mark) drop(mark);
      }
    }),
  );
}

function drop(mark) {
  state.pending = state.pending.filter((other) => other !== mark);
  tell("marks");
}

/** Follow a long change to its end, then take the scan as it is. */
async function finish(scan, job, target) {
  const { kept = [] } = await api.follow(job, (event) =>
    note(`${event.text || "working"}, ${Math.round((100 * event.done) / Math.max(event.total, 1e-9))} %`),
  );
  forget(scan, target);
  await reload(scan);
  if (kept.length) {
    const many = kept.length > 1;
    note(`${kept.length} slice${many ? "s" : ""} that you drew in ${many ? "are left as they are" : "is left as it is"}.`, 6);
  }
}

/** Take a scan as the server has it. */
export async function reload(scan = state.scan) {
  const fresh = await api.get(`/scans/${scan.id}`);
  takeScan(fresh);
  if (state.scan?.id === scan.id) tell("targets");
  return fresh;
}

async function back(way) {
  const { scan } = state;
  if (!scan) return;
  try {
    const reply = await busy(inOrder(() => api.send("POST", `/scans/${scan.id}/${way}`)));
    take(scan, reply, null);
    tell("edited", scan.id);
    calm();
  } catch (error) {
    complain(error);
  }
}

export const undo = () => back("undo");
export const redo = () => back("redo");

let threshold = null;

/** Move the threshold; while one move is on its way only the latest next one waits. */
export async function setThreshold(value) {
  const { scan } = state;
  const first = threshold === null;
  threshold = value;
  if (!first) return;
  try {
    while (threshold !== null) {
      const sent = threshold;
      const reply = await inOrder(() => api.send("PUT", `/scans/${scan.id}/threshold`, { value: sent }));
      if (state.scan?.id === scan.id) {
        remember(reply);
        scan.threshold = sent;
        forget(scan);
        takeTargets(reply);
        tell("targets");
      }
      if (threshold === sent) threshold = null;
    }
    calm();
  } catch (error) {
    threshold = null;
    complain(error);
    if (state.scan?.id === scan.id) tell("targets");
  }
}

/** Change a target's name, colour, visibility or lock. */
export async function change(target, fields) {
  const { scan } = state;
  try {
    const reply = await inOrder(() => api.send("PATCH", `/scans/${scan.id}/targets/${target.id}`, fields));
    if (state.scan?.id !== scan.id) return;
    takeTarget(reply.target ?? reply);
    remember(reply);
    tell("targets");
    calm();
  } catch (error) {
    complain(error);
    tell("targets");
  }
}

/** Take a target out; undo brings it back. */
export async function remove(target) {
  const { scan } = state;
  try {
    await inOrder(() => api.send("DELETE", `/scans/${scan.id}/targets/${target.id}`));
    forget(scan, target);
    await reload(scan);
    calm();
    note(`${target.name} is removed; undo brings it back.`);
  } catch (error) {
    complain(error);
  }
}

/** A new empty target, to be drawn by hand. */
export async function addTarget() {
  const { scan } = state;
  try {
    const made = await inOrder(() => api.send("POST", `/scans/${scan.id}/targets`, { name: freeName(scan) }));
    if (state.scan?.id !== scan.id) return;
    takeTarget(made);
    state.active = made.id;
    await reload(scan);
  } catch (error) {
    complain(error);
  }
}

/** Ask for changes made elsewhere (a second tab), and after the server was away. */
export function watchEdits() {
  const again = async (always = false) => {
    const { scan } = state;
    if (!scan || unsettled()) return true;
    try {
      const fresh = await api.get(`/scans/${scan.id}`);
      // A change of this page that was made meanwhile has an answer of its own.
      if (state.scan !== scan || unsettled()) return true;
      if (always || fresh.version !== scan.version) {
        forget(scan);
        takeScan(fresh);
        tell("targets");
        if (!always) note("This scan was changed in another tab: here it is as it is now.", 6);
      }
      return true;
    } catch (error) {
      complain(error);
      return false;
    }
  };
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") again();
  });
  // A window beside this one leaves both visible.
  globalThis.addEventListener("focus", () => again());
  on("back", async () => {
    if ((await again(true)) && state.scan) {
      calm();
      note("The server is back. A change that it had not answered was not made: repeat it.", 8);
    }
  });
}
