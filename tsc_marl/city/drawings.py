"""The map of a city and the phases of its signals as SVG."""

import html
import math
from collections.abc import Callable, Sequence

from sumolib.net import Net

from tsc_marl.sim.signal_sheet import Point, SignalSheet, Way
from tsc_marl.sim.signal_timing import GREEN

ROOM = 1.45
"""A phase's picture shows so much more than the stop lines."""
LEAST_M = 8.0
WIDTH_M = 1000.0
"""A map has this many units across, whatever the size of the city."""
DOT = 9.0


def phase(sheet: SignalSheet, state: str) -> str:
    """Return a phase as SVG: a full line for a green that yields to nobody, a dashed one for one that yields, red marks."""
    xs, ys = zip(*(point for way in sheet.ways for point in (way.stop, way.end)), strict=True)
    cx, cy = (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2
    half = ROOM * max(LEAST_M, max(xs) - cx, max(ys) - cy)
    width = half / 16

    def at(point: Point) -> str:
        return f"{point[0] - cx:.1f} {cy - point[1]:.1f}"

    def line(points: str, colour: str, wide: float, dash: str = "") -> str:
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<path d="{points}" fill="none" stroke="var(--{colour})" stroke-width="{wide:.2f}"{dashes}/>'

    roads = [line(f"M{at(_back(way, half))}L{at(way.stop)}", "road", width) for way in sheet.ways if not way.is_crossing]
    marks, greens = [], []
    for way in sheet.ways:
        shown, yields = state[way.link] in GREEN, state[way.link] == "g"
        if way.is_crossing:
            colour = "green" if shown else "red"
            greens.append(line(f"M{at(way.before)}L{at(way.end)}", colour, width * 1.5, f"{width * 0.6:.2f}"))
        elif shown:
            greens.append(line(_bend(way, half / 2, at), "green", width, f"{width * 1.4:.2f} {width:.2f}" if yields else ""))
        else:
            marks.append(line(f"M{at(_back(way, width))}L{at(way.stop)}", "red", width * 1.4))
    label = "; ".join(sheet.movements(state)) or "no green"
    box = f"{-half:.1f} {-half:.1f} {2 * half:.1f} {2 * half:.1f}"
    return f'<svg viewBox="{box}" role="img" aria-label="{html.escape(label)}">{"".join([*roads, *marks, *greens])}</svg>'


def _back(way: Way, metres: float) -> Point:
    """Return the point so far before the stop line."""
    x, y = way.before[0] - way.stop[0], way.before[1] - way.stop[1]
    length = math.hypot(x, y) or 1.0
    return way.stop[0] + x / length * metres, way.stop[1] + y / length * metres


def _bend(way: Way, before_m: float, at: Callable[[Point], str]) -> str:
    """Return the line of a movement: straight to the stop line, then bent to its end."""
    ahead = _back(way, -math.dist(way.stop, way.end) / 2)
    return f"M{at(_back(way, before_m))}L{at(way.stop)}Q{at(ahead)} {at(way.end)}"


def city_map(net: Net, sheets: Sequence[SignalSheet], warned: Sequence[str]) -> str:
    """Return the map as SVG: roads, and a dot for each signal that leads to its section.

    Args:
        net: as sumolib reads it.
        sheets: the signals.
        warned: names of those with a warning.
    """
    edges = [edge.getShape() for edge in net.getEdges(withInternal=False)]
    xs, ys = zip(*((x, y) for shape in edges for x, y, *_ in shape), strict=True)
    left, top = min(xs), max(ys)
    scale = WIDTH_M / max(max(xs) - left, max(ys) - min(ys), 1.0)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x - left) * scale, (top - y) * scale

    roads = "".join("M" + "L".join("{:.0f} {:.0f}".format(*at(x, y)) for x, y, *_ in shape) for shape in edges)
    dots = []
    for number, sheet in enumerate(sheets, 1):
        x, y = at(*sheet.place)
        what = "keeps its program" if sheet.fixed else "agent"
        classes = f"dot {'fixed' if sheet.fixed else 'agent'}{' warned' if sheet.name in warned else ''}"
        dots.append(
            f'<a href="#signal-{number}"><circle class="{classes}" cx="{x:.0f}" cy="{y:.0f}" r="{DOT}"/>'
            f"<title>{html.escape(sheet.name)}: {what}</title>"
            f'<text x="{x + DOT + 3:.0f}" y="{y - DOT:.0f}">{number}</text></a>'
        )
    room = 3 * DOT
    wide, high = (max(xs) - left) * scale + 2 * room, (top - min(ys)) * scale + 2 * room
    return (
        f'<svg viewBox="{-room:.0f} {-room:.0f} {wide:.0f} {high:.0f}" role="img" aria-label="Map with {len(sheets)} signals">'
        f'<path d="{roads}" class="roads"/>{"".join(dots)}</svg>'
    )
