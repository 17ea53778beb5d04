import { areaPath, linePath, niceCeiling, place } from "./scale.js";

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 34, top: 8, right: 2, bottom: 20 };

/**
 * A live line chart over a known stretch of time.
 *
 * @param {SVGSVGElement} svg
 * @param {{duration: number, band: [number, number], least: number}} options times in ms; the band
 *   is a shaded stretch; `least` is the lowest top of the scale
 * @returns {{add: (at: number, value: number) => void, clear: () => void}}
 */
export function createChart(svg, { duration, band, least }) {
  let points = [];
  let drawn = false;

  const draw = () => {
    drawn = true;
    svg.replaceChildren(...shapes(svg, points, { duration, band, least }));
  };
  const drawSoon = () => {
    if (drawn) requestAnimationFrame(draw);
    drawn = false;
  };

  draw();
  new ResizeObserver(draw).observe(svg);
  return {
    add(at, value) {
      points.push({ at, value });
      drawSoon();
    },
    clear() {
      points = [];
      drawSoon();
    },
  };
}

function shapes(svg, points, { duration, band, least }) {
  const { width, height } = svg.getBoundingClientRect();
  const box = {
    left: MARGIN.left,
    top: MARGIN.top,
    right: Math.max(width - MARGIN.right, MARGIN.left + 1),
    bottom: height - MARGIN.bottom,
  };
  const max = niceCeiling(Math.max(least, ...points.map(({ value }) => value)));
  const range = { duration, max };
  const pixels = place(points, box, range);
  return [
    bandShape(box, band, range),
    ...valueLines(box, range),
    ...timeLabels(box, range),
    shape("path", { class: "area", d: areaPath(pixels, box.bottom) }),
    shape("path", { class: "line", d: linePath(pixels) }),
  ];
}

function bandShape(box, [from, to], range) {
  const [[x1], [x2]] = place([{ at: from, value: 0 }, { at: to, value: 0 }], box, range);
  const size = { width: x2 - x1, height: box.bottom - box.top };
  return shape("rect", { class: "band", x: x1, y: box.top, ...size });
}

function valueLines(box, range) {
  return [0, range.max / 2, range.max].flatMap((value) => {
    const [[, y]] = place([{ at: 0, value }], box, range);
    return [
      shape("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }),
      label(String(value), { x: box.left - 6, y: y + 4, "text-anchor": "end" }),
    ];
  });
}

function timeLabels(box, range) {
  const seconds = range.duration / 1000;
  return [0, seconds / 3, (seconds * 2) / 3, seconds].map((second, i) => {
    const [[x]] = place([{ at: second * 1000, value: 0 }], box, range);
    const anchor = ["start", "middle", "middle", "end"][i];
    return label(`${second} s`, { x, y: box.bottom + 16, "text-anchor": anchor });
  });
}

function label(text, attributes) {
  const element = shape("text", attributes);
  element.textContent = text;
  return element;
}

function shape(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
