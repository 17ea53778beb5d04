"""Line plots as plain SVG, on a ground of their own: legible wherever they are shown."""

import math
from dataclasses import dataclass
from html import escape

WIDTH_ALONE, WIDTH_EACH, HEIGHT = 600, 300, 240  # of panels
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 56, 46
LEGEND_Y = 26
# name -> (colour by day, by night, marker)
STYLES = {
    "cromulent_turn": ("#0969da", "#58a6ff", "circle"),
    "cromulent_turn-switch": ("#8250df", "#bc8cff", "diamond"),
    "coturn": ("#bc4c00", "#f0883e", "square"),
    "eturnal": ("#1a7f37", "#3fb950", "triangle"),
}
OTHER = ("#6e7781", "#8b949e", "circle")
CSS = """
text { font: 12px -apple-system, "Segoe UI", "Liberation Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.soft { fill: #59636e }
.ground { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.axis { stroke: #59636e; stroke-width: 1 }
.line { fill: none; stroke-width: 2; stroke-linejoin: round }
.band { stroke: none; opacity: 0.15 }
"""
NIGHT = """
text { fill: #f0f6fc }
.soft { fill: #9198a1 }
.ground { fill: #0d1117; stroke: #3d444d }
.grid { stroke: #2a313c }
.axis { stroke: #9198a1 }
"""


@dataclass
class Panel:
    """Several lines over one pair of axes: {name: [(x, y, lowest, highest)]}."""

    title: str
    lines: dict
    x_label: str
    y_label: str


@dataclass
class Axis:
    low: float
    high: float
    log: bool
    start: float  # in pixels
    length: float

    def at(self, value):
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        return self.start + self.length * (value - low) / (high - low)

    def ticks(self):
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0 ** i for i in range(first, last + 1)]
        step = nice(self.high / 5)
        return [step * i for i in range(int(self.high / step + 1e-9) + 1)]


def nice(value):
    """The next number of the kind 1, 2, 5, 10 ... from there up."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


def axis(values, log, start, length):
    top = max(values)
    if log:
        bottom = min(value for value in values if value > 0)
        low, high = math.floor(math.log10(bottom)), math.ceil(math.log10(top))
        return Axis(10.0 ** low, 10.0 ** max(high, low + 1), True, start, length)
    step = nice(top / 5)
    return Axis(0, step * math.ceil(top / step - 1e-9), False, start, length)


def number(value):
    if value >= 1000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def marker(kind, x, y):
    shapes = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5"',
        "square": f'<rect x="{x - 3.2:.1f}" y="{y - 3.2:.1f}" width="6.4" height="6.4"',
        "diamond": f'<path d="M{x:.1f} {y - 4.6:.1f}l4.6 4.6l-4.6 4.6l-4.6 -4.6z"',
        "triangle": f'<path d="M{x:.1f} {y - 4.4:.1f}l4.2 7.4h-8.4z"',
    }
    return shapes[kind]


def css_name(name):
    return "s-" + "".join(c if c.isalnum() else "-" for c in name)


def draw_line(name, points, xs, ys):
    style = STYLES.get(name, OTHER)
    path = "M" + "L".join(f"{xs.at(x):.1f} {ys.at(y):.1f}" for x, y, _, _ in points)
    over = [f"{xs.at(x):.1f} {ys.at(high):.1f}" for x, _, _, high in points]
    under = [f"{xs.at(x):.1f} {ys.at(low):.1f}" for x, _, low, _ in reversed(points)]
    dash = ' stroke-dasharray="5 4"' if name not in STYLES else ""
    yield f'<path class="band fill {css_name(name)}" d="M{"L".join(over + under)}z"/>'
    yield f'<path class="line {css_name(name)}"{dash} d="{path}"/>'
    for x, y, low, high in points:
        yield (marker(style[2], xs.at(x), ys.at(y)) + f' class="fill {css_name(name)}">'
               f"<title>{escape(name)}: {y:,.4g} ({low:,.4g} to {high:,.4g}) at {x:,.0f}</title>"
               f"{'</circle>' if style[2] == 'circle' else '</rect>' if style[2] == 'square' else '</path>'}")


def draw_axes(panel, xs, ys):
    bottom, right = ys.start, xs.start + xs.length
    for value in ys.ticks():
        y = ys.at(value)
        yield f'<path class="grid" d="M{xs.start} {y:.1f}H{right}"/>'
        yield f'<text class="soft" x="{xs.start - 6}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>'
    for value in xs.ticks():
        yield (f'<text class="soft" x="{xs.at(value):.1f}" y="{bottom + 17}" '
               f'text-anchor="middle">{number(value)}</text>')
    yield f'<path class="axis" d="M{xs.start} {bottom}H{right}"/>'
    yield f'<text class="title" x="{xs.start}" y="{bottom + ys.length - 10}">{escape(panel.title)}</text>'
    yield (f'<text class="soft" x="{xs.start + xs.length / 2}" y="{bottom + 36}" '
           f'text-anchor="middle">{escape(panel.x_label)}</text>')
    middle = bottom + ys.length / 2
    yield (f'<text class="soft" transform="translate({xs.start - 46} {middle}) rotate(-90)" '
           f'text-anchor="middle">{escape(panel.y_label)}</text>')


def draw_panel(panel, left, width, ys):
    points = [point for line in panel.lines.values() for point in line]
    xs = axis([x for x, _, _, _ in points], False, left + LEFT, width - LEFT - RIGHT)
    yield from draw_axes(panel, xs, ys)
    for name, line in panel.lines.items():
        yield from draw_line(name, line, xs, ys)


def draw_legend(names):
    x = LEFT
    for name in names:
        style = STYLES.get(name, OTHER)
        yield marker(style[2], x + 4, LEGEND_Y - 4) + f' class="fill {css_name(name)}"/>'
        yield f'<text x="{x + 14}" y="{LEGEND_Y}">{escape(name)}</text>'
        x += 36 + 6.6 * len(name)


def colours(names, night):
    for name in names:
        colour = STYLES.get(name, OTHER)[1 if night else 0]
        yield f".line.{css_name(name)} {{ stroke: {colour} }} .fill.{css_name(name)} {{ fill: {colour} }}"


def values_of(panels):
    return [y for panel in panels for line in panel.lines.values() for _, *ys in line for y in ys]


def svg(panels, what, log_y=False):
    """Panels side by side, with one legend and the same range of y."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    each = WIDTH_ALONE if len(panels) == 1 else WIDTH_EACH
    width, height = each * len(panels) + RIGHT, TOP + HEIGHT + BOTTOM
    ys = axis(values_of(panels), log_y, TOP + HEIGHT, 20 - HEIGHT)
    body = list(draw_legend(names))
    for i, panel in enumerate(panels):
        body += draw_panel(panel, i * each, each, ys)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        f"<title>{escape(what)}</title>",
        f"<style>{CSS}" + "\n".join(colours(names, False))
        + "\n@media (prefers-color-scheme: dark) {" + NIGHT + "\n".join(colours(names, True))
        + "\n}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        *body, "</svg>", ""])
