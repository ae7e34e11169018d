// What the page knows, and who wants to hear of its changes.

export const state = {
  about: null,
  scans: [],
  scan: null,
  space: null,
  active: null,
  layout: "one",
  main: null,
  compare: null,
  tool: "point",
  inside: true,
  radius: 6,
  window: { low: 0, high: 1 },
  invert: false,
  show: { masks: true, style: "both", opacity: 0.35, saliency: false, region: false, prompts: true, smooth: true },
  pending: [],
  tapes: [],
  preview: null,
  hover: null,
  keyboard: false,
  lastEdit: null,
  worklist: null,
  item: null,
  singleKeys: true,
};

const listeners = new Map();

/** Call a function when any of these topics (words, one space between) is told. */
export function on(topics, listener) {
  for (const topic of topics.split(" ")) {
    if (!listeners.has(topic)) listeners.set(topic, []);
    listeners.get(topic).push(listener);
  }
}

export function tell(topic, detail) {
  for (const listener of listeners.get(topic) ?? []) listener(detail);
}

/** The target that edits go to; null where there is none. */
export function activeTarget() {
  return state.scan?.targets.find((target) => target.id === state.active) ?? null;
}

/** Put what the server says of a scan in place of what was known. */
export function takeScan(scan) {
  const k = state.scans.findIndex((other) => other.id === scan.id);
  if (k >= 0) state.scans[k] = scan;
  else state.scans.push(scan);
  if (state.scan?.id === scan.id) {
    state.scan = scan;
    if (!activeTarget()) state.active = scan.targets.at(-1)?.id ?? null;
  }
}

/** Put what the server says of a target in its place. */
export function takeTarget(target) {
  const { targets } = state.scan;
  const k = targets.findIndex((other) => other.id === target.id);
  if (k >= 0) targets[k] = target;
  else targets.push(target);
}
