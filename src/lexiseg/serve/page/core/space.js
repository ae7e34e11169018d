// One position in a scan, seen in each of its planes.

// For each plane the body's axis (r right, a anterior, s superior) that slice, row and column run along; a minus
// where the index falls as the axis grows. Axial and coronal have the patient's right on the left of the screen.
const RUNS = {
  axial: ["s", "-a", "-r"],
  coronal: ["a", "-s", "-r"],
  sagittal: ["r", "-s", "-a"],
};
const FLAT = ["k", "y", "x"];

/** A position, in pixels (a pixel's centre lies at +0.5), shared by all planes of a scan. */
export class Space {
  /** @param {Record<string, {count: number, height: number, width: number}>} axes */
  constructor(axes) {
    this.axes = axes;
    this.length = {};
    this.at = {};
    for (const [axis, { count, height, width }] of Object.entries(axes)) {
      [count, height, width].forEach((length, i) => {
        this.length[this.#name(axis, i)] = length;
        // On the centre of a voxel, so that no plane stands between two.
        this.at[this.#name(axis, i)] = Math.floor(length / 2) + 0.5;
      });
    }
  }

  /** Slice, row and column of the position in a plane's axis: {k, x, y}; k is an index. */
  see(axis) {
    const [k, y, x] = [0, 1, 2].map((i) => this.#get(axis, i));
    return { k: Math.min(this.axes[axis].count - 1, Math.max(0, Math.floor(k))), x, y };
  }

  /** Move to what is given of {k, x, y} in a plane's axis; what lies outside stops at the border. */
  move(axis, { k, x, y }) {
    if (k !== undefined) this.#set(axis, 0, k + 0.5);
    if (y !== undefined) this.#set(axis, 1, y);
    if (x !== undefined) this.#set(axis, 2, x);
  }

  #run(axis, i) {
    return (RUNS[axis] ?? FLAT)[i];
  }

  #name(axis, i) {
    return this.#run(axis, i).replace("-", "");
  }

  #get(axis, i) {
    const name = this.#name(axis, i);
    return this.#run(axis, i).startsWith("-") ? this.length[name] - this.at[name] : this.at[name];
  }

  #set(axis, i, value) {
    const name = this.#name(axis, i);
    const inside = Math.min(this.length[name] - 1e-3, Math.max(0, value));
    this.at[name] = this.#run(axis, i).startsWith("-") ? this.length[name] - inside : inside;
  }
}
