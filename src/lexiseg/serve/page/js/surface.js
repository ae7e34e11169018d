// The 3D surface of the targets, by NiiVue where its package is installed: the server hands its script on.

import { $, el, settled } from "./dom.js";
import { layout } from "./bar.js";
import { on, state } from "./state.js";
import { complain } from "./say.js";
import { rgbOf } from "../core/bits.js";

const SCRIPT = "/vendor/niivue.js";
const PREFIX = "IPY_MODEL_";

/** What the script expects of a notebook: named values, and listeners for their changes. */
class Values {
  constructor(values) {
    this.values = values;
    this.listeners = new Map();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
  }

  /** Set a value as the notebook's side would: listeners hear of it. */
  async tell(name, value) {
    this.values[name] = value;
    for (const listener of this.listeners.get(`change:${name}`) ?? []) await listener();
  }

  on(event, listener) {
    if (!this.listeners.has(event)) this.listeners.set(event, []);
    this.listeners.get(event).push(listener);
  }

  off(event) {
    this.listeners.delete(event);
  }

  save_changes() {}

  send() {}

  onChange() {}
}

// What a mesh has to say of itself; shader 0 is Phong's.
const MESH = {
  opacity: 1,
  visible: true,
  layers: [],
  mesh_shader_index: 0,
  colormap_invert: false,
  colorbar_visible: false,
  legend_line_thickness: 0,
  edge_min: 2,
  edge_scale: 1,
  node_scale: 4,
  fiber_radius: 0,
  fiber_occlusion: 0,
  fiber_length: 2,
  fiber_dither: 0.1,
  fiber_color: "Global",
  fiber_decimation_stride: 1,
};

const meshes = new Map();
let viewer = null;
let place = null;
let turn = 0;

function newViewer() {
  const made = new Values({
    height: 400,
    volumes: [],
    meshes: [],
    scene: {},
    graph: {},
    draw_lut: null,
    draw_opacity: 0.8,
    draw_fill_overwrites: true,
    background_masks_overlays: 0,
    overlay_outline_width: 0,
    overlay_alpha_shader: 1,
    opts: {
      backColor: [0.027, 0.035, 0.047, 1],
      show3Dcrosshair: false,
      isOrientCube: false,
      dragAndDropEnabled: false,
      isResizeCanvas: true,
      loadingText: "",
      sliceType: 4,
    },
  });
  made.widget_manager = { get_model: async (id) => meshes.get(id) };
  return made;
}

/** Put the surfaces of the visible targets up; those that changed are fetched anew. */
async function refresh() {
  if (!viewer || state.layout !== "surface" || !state.scan) return;
  const { scan } = state;
  turn += 1;
  meshes.clear();
  const shown = scan.targets.filter((target) => target.visible !== false && (target.voxels ?? target.pixels) > 0);
  for (const target of shown) {
    const id = `${scan.id}-${target.id}-${turn}`;
    meshes.set(
      id,
      new Values({
        ...MESH,
        id,
        name: `${target.id}.stl`,
        rgba255: [...rgbOf(target.colour), 255],
        url: `/api/v1/scans/${scan.id}/export?format=stl&targets=${target.id}`,
      }),
    );
  }
  $(".surface-words").textContent = shown.length ? "" : "No target has a mask yet.";
  try {
    await viewer.tell(
      "meshes",
      [...meshes.keys()].map((id) => PREFIX + id),
    );
  } catch (error) {
    complain(error);
  }
}

async function mount() {
  if (state.layout !== "surface" || !state.scan) return;
  const box = el("div", { class: "surface", role: "img", "aria-label": "3D surface of the targets; drag to turn" });
  $("#panes").append(
    el(
      "div",
      { class: "pane" },
      box,
      el("div", { class: "pane-head" }, el("span", { class: "pane-title", text: "3D surface" })),
      el("p", { class: "surface-words" }),
    ),
  );
  try {
    const { default: widget } = await import(SCRIPT);
    if (!viewer) {
      viewer = newViewer();
      await widget.initialize({ model: viewer });
    }
    viewer.set("height", box.clientHeight);
    place = box;
    await widget.render({ model: viewer, el: box });
    if (place === box) await refresh();
  } catch (error) {
    complain(
      error instanceof TypeError
        ? "The 3D view could not be loaded; install it with: pip install lexiseg[view3d]"
        : error,
    );
  }
}

export function setUpSurface() {
  on("surface", () => layout(state.layout === "surface" ? "one" : "surface"));
  on("panes", mount);
  on("targets", settled(refresh, 600));
}
