// Small drawings over a plane, all in CSS pixels of the canvas.

const INK = "rgb(0 0 0 / 70%)";
const FONT = '600 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

/** A line with a dark rim, so that it reads on black and on white. */
export function drawStroke(context, path, colour, width, dash = []) {
  context.save();
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.strokeStyle = INK;
  context.lineWidth = width + 1.5;
  context.stroke(path);
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
  context.restore();
}

export function drawBox(context, [x, y, width, height], colour, drawing = false) {
  const path = new Path2D();
  path.rect(x, y, width, height);
  drawStroke(context, path, colour, 1.25, drawing ? [] : [6, 4]);
}

/** A point that says inside (+) or outside (-); hollow while the server works on it. */
export function drawPoint(context, { x, y }, inside, pending = false) {
  const colour = inside ? "#4ade80" : "#fb7185";
  context.save();
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, 6, 0, 2 * Math.PI);
  context.fillStyle = pending ? "rgb(0 0 0 / 45%)" : colour;
  context.fill();
  context.strokeStyle = pending ? colour : INK;
  context.stroke();
  context.strokeStyle = pending ? colour : "#06110b";
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (inside) {
    context.moveTo(x, y - 3);
    context.lineTo(x, y + 3);
  }
  context.stroke();
  context.restore();
}

/** The crosshair; firm where the keyboard moves it. */
export function drawCross(context, { x, y }, { width, height }, firm) {
  const gap = 10;
  context.save();
  context.strokeStyle = firm ? "rgb(255 255 255 / 95%)" : "rgb(150 205 255 / 55%)";
  context.lineWidth = firm ? 1.5 : 1;
  context.beginPath();
  for (const [from, to] of [
    [0, x - gap],
    [x + gap, width],
  ]) {
    if (to <= from) continue;
    context.moveTo(from, y);
    context.lineTo(to, y);
  }
  for (const [from, to] of [
    [0, y - gap],
    [y + gap, height],
  ]) {
    if (to <= from) continue;
    context.moveTo(x, from);
    context.lineTo(x, to);
  }
  context.stroke();
  if (firm) {
    context.beginPath();
    context.arc(x, y, 2, 0, 2 * Math.PI);
    context.stroke();
  }
  context.restore();
}

/** Text with a dark rim. */
export function drawText(context, text, x, y, align = "left") {
  context.save();
  context.font = FONT;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.strokeStyle = INK;
  context.lineWidth = 3.5;
  context.strokeText(text, x, y);
  context.fillStyle = "#e8edf5";
  context.fillText(text, x, y);
  context.restore();
}

/**
 * A bar of a round length, in mm where the spacing is known and in pixels where it is not. It stands above the letter
 * of the lower side where both have no room beside each other.
 */
export function drawScale(context, { width, height }, spacing, perUnit, letters = null) {
  const most = Math.min(160, width / 3);
  let length = 10 ** Math.floor(Math.log10(most / perUnit));
  for (const factor of [5, 2]) {
    if (length * factor * perUnit <= most) {
      length *= factor;
      break;
    }
  }
  const long = length * perUnit;
  if (!(long > 8)) return;
  const words = `${Number(length.toPrecision(2))} ${spacing ? "mm" : "px"}`;
  context.font = FONT;
  const end = 16 + long + 8 + context.measureText(words).width;
  const free = letters?.bottom ? width / 2 - context.measureText(letters.bottom).width / 2 - 6 : width;
  const [x, y] = [16, height - (end > free ? 40 : 18)];
  const path = new Path2D();
  path.moveTo(x, y - 5);
  path.lineTo(x, y);
  path.lineTo(x + long, y);
  path.lineTo(x + long, y - 5);
  drawStroke(context, path, "#e8edf5", 1.5);
  drawText(context, words, x + long + 8, y - 3);
}

/** A measured distance, with its length as `words`. */
export function drawTape(context, at, to, words) {
  const path = new Path2D();
  path.moveTo(at.x, at.y);
  path.lineTo(to.x, to.y);
  drawStroke(context, path, "#ffd166", 1.5);
  for (const { x, y } of [at, to]) {
    const dot = new Path2D();
    dot.arc(x, y, 3, 0, 2 * Math.PI);
    drawStroke(context, dot, "#ffd166", 1.5);
  }
  drawText(context, words, (at.x + to.x) / 2 + 10, (at.y + to.y) / 2 - 12);
}

/**
 * The distance of two positions of a plane, in words: in mm, or in pixels where nobody knows the spacing.
 * @param {number[]|null} spacing of rows and columns.
 * @param {(number[]|null)[]|null} places mm of each row and of each column where they are not evenly apart.
 */
export function distance(from, to, spacing, places = null) {
  const far = (start, end, i) =>
    places?.[i] ? placeOf(places[i], end) - placeOf(places[i], start) : (end - start) * (spacing?.[i] ?? 1);
  const length = Math.hypot(far(from.x, to.x, 1), far(from.y, to.y, 0));
  return `${length.toFixed(1)} ${spacing ? "mm" : "px"}`;
}

/** mm of a position (a pixel's centre lies at +0.5) among pixels whose centres lie at `places`. */
function placeOf(places, at) {
  const k = Math.min(places.length - 2, Math.max(0, Math.floor(at - 0.5)));
  return places[k] + (at - 0.5 - k) * (places[k + 1] - places[k]);
}

/** The patient's sides at the edges, where the scan says them. */
export function drawLetters(context, { width, height }, letters) {
  if (!letters) return;
  drawText(context, letters.left, 12, height / 2);
  drawText(context, letters.right, width - 12, height / 2, "right");
  // A narrow plane has its title at the top.
  drawText(context, letters.top, width / 2, width < 280 ? 54 : 14, "center");
  drawText(context, letters.bottom, width / 2, height - 14, "center");
}
