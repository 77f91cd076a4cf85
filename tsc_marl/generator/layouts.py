"""Where streets lie: grids, rings, towns, arterials and single junctions as places and straight streets between them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, shortest_path
from scipy.spatial import Delaunay

Rng = np.random.Generator
LEAST_ANGLE, OPEN_ANGLE, WIDE_ANGLE = math.radians(42), math.radians(150), math.radians(240)
"""Between two streets of a place; of a gap that gets a street to the outside; of a gap that gets two."""


@dataclass(frozen=True)
class Street:
    """A street between two places."""

    start: str
    end: str
    line: str
    """Streets of one line have the same rank, speed and direction."""


@dataclass
class Layout:
    """Places [m] and the streets between them."""

    places: dict[str, tuple[float, float]] = field(default_factory=dict)
    streets: list[Street] = field(default_factory=list)
    main: set[str] = field(default_factory=set)
    """Lines of main streets."""

    def at(self, place: str) -> list[Street]:
        """Return the streets of a place."""
        return [street for street in self.streets if place in (street.start, street.end)]

    def length_m(self, street: Street) -> float:
        """Return the distance of the places of a street."""
        return math.dist(self.places[street.start], self.places[street.end])

    def angle(self, place: str, street: Street) -> float:
        """Return the direction in which a street leaves a place [rad]."""
        (x, y), other = self.places[place], street.end if street.start == place else street.start
        return math.atan2(self.places[other][1] - y, self.places[other][0] - x)

    def add_leg(self, place: str, angle: float, length_m: float, line: str) -> None:
        """Add a street to the outside."""
        x, y = self.places[place]
        end = f"{place}_{len(self.at(place))}"
        self.places[end] = (x + length_m * math.cos(angle), y + length_m * math.sin(angle))
        self.streets.append(Street(place, end, line))

    def shorten_leg(self, end: str, length_m: float) -> None:
        """Move the outer end of a street to the outside to a distance from its junction, unless it is nearer."""
        street = self.at(end)[0]
        (x, y), place = self.places[end], street.start if street.end == end else street.end
        share = min(1.0, length_m / self.length_m(street))
        centre = self.places[place]
        self.places[end] = (centre[0] + share * (x - centre[0]), centre[1] + share * (y - centre[1]))


def grid(rng: Rng, spacing_m: float) -> Layout:
    """Return up to 8 x 8 places in rows and columns, some streets left out."""
    columns, rows = (int(n) for n in rng.choice([1, 2, 3, 4, 5, 6, 7, 8], 2, p=[0.05, 0.15, 0.2, 0.2, 0.15, 0.1, 0.07, 0.08]))
    rows = max(2, min(rows, 60 // columns))
    x, y = (np.cumsum(np.clip(rng.normal(1, rng.choice([0, 0.25]), n), 0.5, 1.6)) * spacing_m for n in (columns, rows))
    shift_m = spacing_m * rng.choice([0, 0.04, 0.1])
    layout = Layout()
    for i in range(columns):
        for j in range(rows):
            dx, dy = rng.normal(0, 1, 2).clip(-1.5, 1.5) * shift_m
            layout.places[f"{i}-{j}"] = (float(x[i] + dx), float(y[j] + dy))
    ways = [Street(f"{i}-{j}", f"{i + 1}-{j}", f"row{j}") for i in range(columns - 1) for j in range(rows)]
    ways += [Street(f"{i}-{j}", f"{i}-{j + 1}", f"column{i}") for i in range(columns) for j in range(rows - 1)]
    layout.streets = ways
    for k in rng.permutation(len(ways))[: int(rng.choice([0, 0.12]) * len(ways))]:
        rest = [street for street in layout.streets if street != ways[k]]
        if _connected(Layout(layout.places, rest)):
            layout.streets = rest
    layout.main = set(_some(rng, sorted({street.line for street in ways})))
    return _with_legs(rng, layout, spacing_m, 0.9)


def ring(rng: Rng, spacing_m: float) -> Layout:
    """Return rings around a centre, joined by arms."""
    arms, circles = int(rng.integers(4, 8)), int(rng.integers(1, 4))
    layout = Layout()
    for k in range(arms):
        for c in range(circles):
            angle = 2 * math.pi * (k + rng.normal(0, 0.08)) / arms
            radius_m = spacing_m * (c + max(1.0, arms / 6.5))
            layout.places[f"{k}-{c}"] = (radius_m * math.cos(angle), radius_m * math.sin(angle))
    layout.streets = [Street(f"{k}-{c}", f"{(k + 1) % arms}-{c}", f"ring{c}") for k in range(arms) for c in range(circles)]
    layout.streets += [Street(f"{k}-{c}", f"{k}-{c + 1}", f"arm{k}") for k in range(arms) for c in range(circles - 1)]
    if arms < 6 and rng.random() < 0.5:
        layout.places["centre"] = (0.0, 0.0)
        layout.streets += [Street("centre", f"{k}-0", f"arm{k}") for k in range(arms)]
    layout.main = set(_some(rng, sorted({street.line for street in layout.streets})))
    return _with_legs(rng, layout, spacing_m, 0.9)


def town(rng: Rng, spacing_m: float) -> Layout:
    """Return scattered places, near ones joined, with some main streets across."""
    side = int(rng.choice([2, 3, 4, 5, 6, 7, 8], p=[0.12, 0.18, 0.2, 0.17, 0.13, 0.1, 0.1]))
    points = np.array([(i + 0.5 * (j % 2), j) for i in range(side) for j in range(max(2, side - int(rng.integers(0, 2))))], float)
    points = points[np.sort(rng.permutation(len(points))[: max(4, int(len(points) * rng.uniform(0.75, 1)))])]
    points = (points + rng.uniform(-0.27, 0.27, points.shape)) * spacing_m
    layout = Layout({str(k): (float(x), float(y)) for k, (x, y) in enumerate(points)})
    triangles = Delaunay(points).simplices.tolist()
    pairs = {(min(a, b), max(a, b)) for t in triangles for a, b in ((t[0], t[1]), (t[1], t[2]), (t[2], t[0]))}
    ways = [Street(str(a), str(b), f"street{a}-{b}") for a, b in sorted(pairs)]
    for street in sorted(ways, key=layout.length_m):
        if layout.length_m(street) < 1.6 * spacing_m and _fits(layout, street):
            layout.streets.append(street)
    for street in [street for street in layout.streets if rng.random() < 0.06]:
        rest = [other for other in layout.streets if other != street]
        if _connected(Layout(layout.places, rest)):
            layout.streets = rest
    _keep_largest(layout)
    layout.main = {street.line for street in _across(rng, layout)}
    return _with_legs(rng, layout, spacing_m, 0.75)


def arterial(rng: Rng, spacing_m: float) -> Layout:
    """Return a main street with side streets on both sides or one."""
    layout, x, angle = Layout(main={"main"}), np.zeros(2), 0.0
    for k in range(int(rng.integers(2, 13))):
        layout.places[str(k)] = (float(x[0]), float(x[1]))
        angle = float(np.clip(angle + rng.normal(0, 0.12), -0.4, 0.4))
        x = x + spacing_m * rng.uniform(0.6, 1.5) * np.array([math.cos(angle), math.sin(angle)])
    layout.streets = [Street(str(k), str(k + 1), "main") for k in range(len(layout.places) - 1)]
    for place in list(layout.places):
        sides = [(1,), (-1,), (1, -1)][rng.choice(3, p=[0.17, 0.17, 0.66])]
        for side in sides:
            layout.add_leg(place, side * math.pi / 2 + rng.normal(0, 0.12), rng.uniform(100, 300), f"side{place}")
    last = len([place for place in layout.places if "_" not in place]) - 1
    layout.add_leg("0", math.pi, rng.uniform(150, 350), "main")
    layout.add_leg(str(last), angle, rng.uniform(150, 350), "main")
    return layout


def single(rng: Rng, _spacing_m: float) -> Layout:
    """Return one junction with three to five legs."""
    legs = int(rng.choice([3, 4, 5], p=[0.3, 0.6, 0.1]))
    layout = Layout({"0": (0.0, 0.0)}, main={"line0"})
    angles = 2 * math.pi * np.arange(legs) / 4 if legs < 5 else 2 * math.pi * np.arange(legs) / 5
    for k, angle in enumerate(angles):
        layout.add_leg("0", float(angle + rng.normal(0, 0.1)), rng.uniform(120, 450), f"line{k % 2}" if legs < 5 else f"line{k}")
    return layout


LAYOUTS: dict[str, Callable[[Rng, float], Layout]] = {
    "grid": grid, "ring": ring, "town": town, "arterial": arterial, "single": single,
}  # fmt: skip


def _some(rng: Rng, lines: list[str]) -> list[str]:
    """Return one to half of the lines."""
    return [lines[k] for k in np.sort(rng.permutation(len(lines))[: int(rng.integers(1, max(2, len(lines) // 2 + 1)))])]


def _fits(layout: Layout, street: Street) -> bool:
    """Return whether a street leaves both of its places at a fair angle to their other streets."""
    for place in (street.start, street.end):
        angle = layout.angle(place, street)
        turns = [abs(math.remainder(angle - layout.angle(place, other), 2 * math.pi)) for other in layout.at(place)]
        if min(turns, default=math.pi) < LEAST_ANGLE:
            return False
    return True


def _graph(layout: Layout, weighted: bool = False) -> tuple[list[str], csr_array]:
    names = list(layout.places)
    index = {name: k for k, name in enumerate(names)}
    ends = np.array([(index[street.start], index[street.end]) for street in layout.streets]).reshape(-1, 2)
    weights = np.array([layout.length_m(street) if weighted else 1.0 for street in layout.streets])
    return names, csr_array((weights, (ends[:, 0], ends[:, 1])), shape=(len(names), len(names)))


def _connected(layout: Layout) -> bool:
    return connected_components(_graph(layout)[1], directed=False)[0] == 1


def _keep_largest(layout: Layout) -> None:
    names, graph = _graph(layout)
    _, component = connected_components(graph, directed=False)
    kept = {name for name, of in zip(names, component, strict=True) if of == np.bincount(component).argmax()}
    layout.places = {name: place for name, place in layout.places.items() if name in kept}
    layout.streets = [street for street in layout.streets if street.start in kept]


def _across(rng: Rng, layout: Layout) -> Iterator[Street]:
    """Yield the streets of shortest ways between far places."""
    names, graph = _graph(layout, weighted=True)
    away_m, before = shortest_path(graph, method="D", directed=False, return_predecessors=True)
    between = {frozenset((street.start, street.end)): street for street in layout.streets}
    for _ in range(int(rng.integers(1, 4))):
        start = int(rng.integers(len(names)))
        place = int(away_m[start].argmax())
        while place != start:
            yield between[frozenset((names[place], names[int(before[start, place])]))]
            place = int(before[start, place])


def _with_legs(rng: Rng, layout: Layout, spacing_m: float, share: float) -> Layout:
    """Add streets to the outside, where a place has room."""
    for place in list(layout.places):
        while (gap := _widest_gap(layout, place))[1] >= OPEN_ANGLE:
            start, width = gap
            angle = start + (width / 2 if width < WIDE_ANGLE else width / 3) + rng.normal(0, 0.06)
            length_m = float(rng.uniform(0.7, 1.5)) * min(spacing_m, 200)
            behind = [street for street in layout.at(place) if math.cos(angle - layout.angle(place, street)) < -0.85]
            line = behind[0].line if behind else f"{place}_{len(layout.at(place))}"
            if rng.random() > share or not _is_free(layout, place, angle, length_m):
                break
            layout.add_leg(place, angle, length_m, line)
    return layout


def _widest_gap(layout: Layout, place: str) -> tuple[float, float]:
    """Return where the widest gap between the streets of a place starts, and its width [rad]."""
    angles = sorted(layout.angle(place, street) for street in layout.at(place))
    widths = np.diff([*angles, angles[0] + 2 * math.pi])
    return angles[int(widths.argmax())], float(widths.max())


def _is_free(layout: Layout, place: str, angle: float, length_m: float) -> bool:
    """Return whether a street to the outside stays away from all others."""
    start = np.array(layout.places[place])
    steps = start + np.linspace(0.25, 1.2, 12)[:, None] * length_m * np.array([math.cos(angle), math.sin(angle)])
    for street in layout.streets:
        a, b = np.array(layout.places[street.start]), np.array(layout.places[street.end])
        along = np.clip((steps - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        near_m = np.linalg.norm(steps - (a + along[:, None] * (b - a)), axis=1)
        away_m = np.linalg.norm(steps - start, axis=1)
        if (near_m < np.minimum(45, 0.55 * away_m)).any():
            return False
    return True
