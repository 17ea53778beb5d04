/** Where a chart's values go: pure arithmetic, in pixels. */

/** The smallest round number that is not below `value`; half of it is round too. */
export function niceCeiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  const step = [1, 2, 3, 4, 6, 8, 10].find((factor) => factor * power >= value * (1 - 1e-9));
  return step * power;
}

/**
 * Maps points {at, value} into a box.
 *
 * @param {{at: number, value: number}[]} points
 * @param {{left: number, top: number, right: number, bottom: number}} box
 * @param {{duration: number, max: number}} range values above `max` stay at the top
 * @returns {[number, number][]}
 */
export function place(points, box, { duration, max }) {
  const x = (at) => box.left + (Math.min(at, duration) / duration) * (box.right - box.left);
  const y = (value) => box.bottom - (Math.min(value, max) / max) * (box.bottom - box.top);
  return points.map(({ at, value }) => [x(at), y(value)]);
}

/** The SVG path of a line through these pixels; "" for none. */
export function linePath(pixels) {
  return pixels.map(([x, y], i) => `${i === 0 ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

/** The SVG path of the area between that line and the bottom; "" for none. */
export function areaPath(pixels, bottom) {
  if (pixels.length === 0) return "";
  const [first, last] = [pixels[0][0], pixels[pixels.length - 1][0]];
  return `${linePath(pixels)}L${last.toFixed(1)} ${bottom}L${first.toFixed(1)} ${bottom}Z`;
}
