// One plane of a scan on a canvas: picture, masks, heat, prompts, crosshair and a scale in mm.

import { develop, shades } from "./tones.js";
import { distance, drawBox, drawCross, drawLetters, drawPoint, drawScale, drawStroke, drawTape } from "./marks.js";

const MARGIN = 0.94;
const CLOSEST = 40;
const FARTHEST = 0.5;

/** Where a pane looks: zoom 1 fits the plane, and the centre is a share of it. Several panes may share one. */
export function camera() {
  return { zoom: 1, x: 0.5, y: 0.5 };
}

export class Pane {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas, view = camera()) {
    this.canvas = canvas;
    this.camera = view;
    this.scene = null;
    this.picture = document.createElement("canvas");
    this.developed = "";
    this.plane = null;
  }

  /**
   * Draw a scene; what it lacks is not drawn.
   * @param {object} scene plane, range, window, invert, smooth, spacing ([row, column] in mm or null), places (mm of
   *   rows and columns that are not evenly apart, or null), layers, style, opacity, cross, marks, letters.
   */
  show(scene) {
    this.scene = scene;
    this.draw();
  }

  draw() {
    const { canvas, scene } = this;
    const ratio = globalThis.devicePixelRatio || 1;
    const { width, height } = this.size();
    const wide = Math.round(width * ratio);
    const high = Math.round(height * ratio);
    if (canvas.width !== wide || canvas.height !== high) {
      canvas.width = wide;
      canvas.height = high;
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!scene?.plane) return;
    this.#develop();
    const { scaleX, scaleY, left, top } = this.#place();
    const { plane } = scene;
    context.save();
    context.translate(left, top);
    context.scale(scaleX, scaleY);
    context.imageSmoothingEnabled = scene.smooth !== false;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, 0, 0);
    this.#drawHeat(context, plane);
    // A mask's pixels are shown as they are: a smooth edge would be one that nobody saved.
    context.imageSmoothingEnabled = false;
    for (const layer of scene.layers ?? []) {
      if (!layer.stamp || scene.style === "outline") continue;
      context.globalAlpha = scene.opacity ?? 0.4;
      context.drawImage(layer.stamp, layer.mask.x, layer.mask.y);
    }
    context.restore();
    this.#drawLines(context);
    this.#drawMarks(context);
    if (scene.cross) drawCross(context, this.toScreen(scene.cross), this.size(), scene.cross.firm);
    // Columns that are not evenly apart have no one scale.
    if (!scene.places?.[1]) {
      const perUnit = scene.spacing ? scaleX / scene.spacing[1] : scaleX;
      drawScale(context, this.size(), scene.spacing, perUnit, scene.letters);
    }
    drawLetters(context, this.size(), scene.letters);
  }

  /** Width and height in CSS pixels. */
  size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  /** A position of the plane on the canvas, CSS pixels. */
  toScreen({ x, y }) {
    const { scaleX, scaleY, left, top } = this.#place();
    return { x: left + x * scaleX, y: top + y * scaleY };
  }

  /** A place on the canvas (CSS pixels from its corner) as a position of the plane; it may lie outside. */
  toPlane({ x, y }) {
    const { scaleX, scaleY, left, top } = this.#place();
    return { x: (x - left) / scaleX, y: (y - top) / scaleY };
  }

  /** Zoom by a factor around a place on the canvas. */
  zoom(factor, around) {
    const before = this.toPlane(around);
    this.camera.zoom = Math.min(CLOSEST, Math.max(FARTHEST, this.camera.zoom * factor));
    const after = this.toPlane(around);
    const { width, height } = this.scene.plane;
    this.camera.x += (before.x - after.x) / width;
    this.camera.y += (before.y - after.y) / height;
    this.#hold();
  }

  /** Move the picture by CSS pixels. */
  pan(dx, dy) {
    const { scaleX, scaleY } = this.#place();
    const { width, height } = this.scene.plane;
    this.camera.x -= dx / scaleX / width;
    this.camera.y -= dy / scaleY / height;
    this.#hold();
  }

  /** Bring a position of the plane into sight. */
  reveal(position) {
    const at = this.toScreen(position);
    const { width, height } = this.size();
    const margin = 24;
    const dx = at.x < margin ? margin - at.x : at.x > width - margin ? width - margin - at.x : 0;
    const dy = at.y < margin ? margin - at.y : at.y > height - margin ? height - margin - at.y : 0;
    if (dx || dy) this.pan(dx, dy);
  }

  #hold() {
    this.camera.x = Math.min(1, Math.max(0, this.camera.x));
    this.camera.y = Math.min(1, Math.max(0, this.camera.y));
  }

  #place() {
    const { plane, spacing } = this.scene;
    const { width, height } = this.size();
    const [row, column] = spacing ?? [1, 1];
    const fit = Math.min(width / (plane.width * column), height / (plane.height * row)) * MARGIN;
    const scale = fit * this.camera.zoom;
    const scaleX = scale * column;
    const scaleY = scale * row;
    return {
      scaleX,
      scaleY,
      left: width / 2 - this.camera.x * plane.width * scaleX,
      top: height / 2 - this.camera.y * plane.height * scaleY,
    };
  }

  #develop() {
    const { plane, range, window, invert } = this.scene;
    const key = [range.low, range.high, window.low, window.high, invert].join();
    if (this.plane === plane && this.developed === key) return;
    develop(plane, shades(plane.colour ? { low: 0, high: 255 } : range, window, invert), this.picture);
    this.plane = plane;
    this.developed = key;
  }

  #drawHeat(context, plane) {
    for (const layer of this.scene.layers ?? []) {
      if (!layer.heat) continue;
      context.globalAlpha = 0.6;
      context.drawImage(layer.heat, 0, 0, plane.width, plane.height);
      context.globalAlpha = 1;
    }
  }

  #drawLines(context) {
    const { scaleX, scaleY, left, top } = this.#place();
    const matrix = new DOMMatrix([scaleX, 0, 0, scaleY, left, top]);
    for (const layer of this.scene.layers ?? []) {
      if (layer.region) {
        const path = new Path2D();
        path.addPath(layer.region, matrix);
        drawStroke(context, path, layer.colour, 1.25, [2, 4]);
      }
      if (layer.path && this.scene.style !== "fill") {
        const path = new Path2D();
        path.addPath(layer.path, matrix);
        drawStroke(context, path, layer.colour, layer.active ? 2 : 1.25);
      }
      for (const box of layer.boxes ?? []) drawBox(context, this.#corners(box), layer.colour);
      for (const [x, y, inside] of layer.points ?? []) drawPoint(context, this.toScreen({ x, y }), inside > 0);
    }
  }

  #drawMarks(context) {
    const { scaleX } = this.#place();
    for (const mark of this.scene.marks ?? []) {
      if (mark.kind === "box") drawBox(context, this.#corners(mark.box), mark.colour, true);
      if (mark.kind === "point") drawPoint(context, this.toScreen(mark), mark.inside, true);
      if (mark.kind === "tape") {
        const words = distance(mark.from, mark.to, this.scene.spacing, this.scene.places);
        drawTape(context, this.toScreen(mark.from), this.toScreen(mark.to), words);
      }
      if (mark.kind === "stroke") {
        const path = new Path2D();
        const places = mark.points.map(([x, y]) => this.toScreen({ x, y }));
        places.forEach((at, i) => (i ? path.lineTo(at.x, at.y) : path.moveTo(at.x, at.y)));
        if (places.length === 1) path.lineTo(places[0].x + 0.01, places[0].y);
        context.save();
        context.globalAlpha = mark.radius ? 0.5 : 1;
        context.lineCap = "round";
        context.lineJoin = "round";
        context.strokeStyle = mark.colour;
        context.lineWidth = mark.radius ? 2 * mark.radius * scaleX : 3;
        context.stroke(path);
        context.restore();
      }
      if (mark.kind === "brush") {
        const at = this.toScreen(mark);
        context.save();
        context.strokeStyle = mark.colour;
        context.lineWidth = 1.5;
        context.beginPath();
        context.arc(at.x, at.y, Math.max(1, mark.radius * scaleX), 0, 2 * Math.PI);
        context.stroke();
        context.restore();
      }
    }
  }

  #corners([x0, y0, x1, y1]) {
    const from = this.toScreen({ x: x0, y: y0 });
    const to = this.toScreen({ x: x1, y: y1 });
    return [from.x, from.y, to.x - from.x, to.y - from.y];
  }
}
