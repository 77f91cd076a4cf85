"""Time-space diagram of a corridor: trajectories of vehicles, reds at the stop lines, green bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.road_network import RoadNetwork, edge_of
from tsc_marl.viz.engineering.corridor import Corridor, Stop
from tsc_marl.viz.engineering.played import Played
from tsc_marl.viz.engineering.sheet import clock_axis, new_sheet
from tsc_marl.viz.vehicle_paths import VehiclePaths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPAN_S = 600
"""Largest time that is drawn, from the middle of the window: more has no room for single vehicles."""
NAME_ROOM = 0.07
"""Least distance of two names beside a diagram, as a share of its height."""
GAP_S = 60
"""A vehicle that is away from the corridor for longer has a new line."""
BAND, THROUGH, RED, YELLOW, VEHICLE = "#cfeadb", "#7fcaa2", "#a11d21", "#e0a100", "#2f4b6e"


@dataclass(frozen=True)
class Bands:
    """Green bands of a corridor with K stop lines over T seconds."""

    legs: list[np.ndarray]
    """[K - 1][T] bool: who is at a stop line in this second has green there, and at the next one, driving at the limits."""
    through: np.ndarray
    """[T] bool: who is at the first stop line in this second has green at all of them."""


def shown(corridor: Corridor, lights: list[Lights], duration_s: int, colours: str) -> np.ndarray:
    """Return [K, T] bool: whether a link along the corridor shows one of SUMO's colours at each stop line in each second."""
    seconds = np.arange(duration_s)
    rows = []
    for stop in corridor.stops:
        light = lights[stop.signal]
        of_state = np.array([any(state[link] in colours for link in stop.links) for state in light.states])
        rows.append(of_state[light.at(seconds)])
    return np.array(rows)


def bands(corridor: Corridor, green: np.ndarray) -> Bands:
    """Return the bands; a second after whose end of the log the next stop line is reached has none.

    Args:
        corridor: with K stop lines.
        green: [K, T] bool, from `shown`.
    """
    reached_s = np.rint([stop.reached_s for stop in corridor.stops]).astype(int)
    moved = [_earlier(row, after) for row, after in zip(green, reached_s - reached_s[0], strict=True)]
    legs = [green[k] & _earlier(green[k + 1], reached_s[k + 1] - reached_s[k]) for k in range(len(green) - 1)]
    return Bands(legs, np.logical_and.reduce(moved))


def _earlier(row: np.ndarray, by: int) -> np.ndarray:
    """Return a row moved to the left, with nothing behind its end."""
    return np.append(row[by:], np.zeros(min(by, len(row)), dtype=bool))


@dataclass(frozen=True)
class Trajectories:
    """Places of vehicles on a corridor, S in all, vehicle after vehicle."""

    second: np.ndarray
    """[S]"""
    along_m: np.ndarray
    """[S] from the start of the corridor."""
    line: np.ndarray
    """[S] number of the line: a vehicle that comes back has a new one."""


def trajectories(corridor: Corridor, net: RoadNetwork, paths: VehiclePaths) -> Trajectories:
    """Return the places on the edges of a corridor."""
    begins = np.full(len(net.lane_index), np.nan)
    for lane, i in net.lane_index.items():
        begins[i] = corridor.begin_m.get(edge_of(lane), np.nan)
    along_m = begins[paths.lane] + paths.pos_m
    on = np.flatnonzero(np.isfinite(along_m))
    second, along_m, vehicle = paths.second[on], along_m[on], paths.vehicle[on]
    breaks = (np.diff(vehicle) != 0) | (np.diff(second) > GAP_S) | (np.diff(along_m) < -1)
    return Trajectories(second, along_m, np.concatenate([[0], np.cumsum(breaks)])[: len(second)])


def without_stop(of: Trajectories, corridor: Corridor) -> tuple[int, int]:
    """Return how many vehicles passed all stop lines, and how many of them never stood between two records."""
    first, last = corridor.stops[0].at_m, corridor.stops[-1].at_m
    begins = np.flatnonzero(np.diff(of.line, prepend=-1))
    if not len(begins):
        return 0, 0
    low, high = np.minimum.reduceat(of.along_m, begins), np.maximum.reduceat(of.along_m, begins)
    same = np.append(np.diff(of.line) == 0, False)
    stands = same & (np.abs(np.diff(of.along_m, append=0)) < 0.1 * np.diff(of.second, append=0))
    stood = np.logical_or.reduceat(stands, begins)
    whole = (low < first) & (high > last)
    return int(whole.sum()), int((whole & ~stood).sum())


def draw(corridor: Corridor, net: RoadNetwork, played: Mapping[str, Played], title: str, duration_s: int) -> "Figure":
    """Return the figure: a diagram for each policy, one below the other, over the same seconds."""
    span_s = min(SPAN_S, duration_s)
    from_s = (duration_s - span_s) // 2
    height = float(np.clip(1.0 + 0.4 * len(corridor.stops), 1.8, 3.4))
    figure = new_sheet(0.9 + height * len(played), title)
    axes = figure.subplots(len(played), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axis, (name, episode) in zip(axes, played.items(), strict=True):
        _draw_diagram(axis, corridor, net, name, episode, duration_s)
        axis.set_ylabel("distance [m]")
    axes[0].set(xlim=(from_s, from_s + span_s), ylim=(0, corridor.length_m * 1.01))
    clock_axis(axes[-1], span_s)
    _draw_key(figure, legs=len(corridor.stops) - 1)
    return figure


def _draw_diagram(axis: "Axes", corridor: Corridor, net: RoadNetwork, name: str, episode: Played, duration_s: int) -> None:
    from matplotlib.collections import LineCollection, PolyCollection

    green, yellow = (shown(corridor, episode.files.lights, duration_s, colours) for colours in ("gG", "yY"))
    band, driven = bands(corridor, green), trajectories(corridor, net, episode.files.paths)
    legs = [_polygon(corridor.stops[k : k + 2], *run) for k, leg in enumerate(band.legs) for run in _runs(leg)]
    axis.add_collection(PolyCollection(legs, facecolors=BAND, zorder=1))
    if len(corridor.stops) > 1:
        through = [_polygon(corridor.stops, *run) for run in _runs(band.through)]
        axis.add_collection(PolyCollection(through, facecolors=THROUGH, zorder=2))
    lines = np.split(np.column_stack([driven.second, driven.along_m]), np.flatnonzero(np.diff(driven.line)) + 1)
    axis.add_collection(LineCollection(lines, colors=VEHICLE, linewidths=0.6, zorder=3))
    for rows, colour in ((~green & ~yellow, RED), (yellow, YELLOW)):
        reds = [[(a, stop.at_m), (b, stop.at_m)] for row, stop in zip(rows, corridor.stops, strict=True) for a, b in _runs(row)]
        axis.add_collection(LineCollection(reds, colors=colour, linewidths=2.6, capstyle="butt", zorder=4))
    whole, free = without_stop(driven, corridor)
    what = "green" if len(corridor.stops) == 1 else f"green past all {len(corridor.stops)} signals"
    axis.set_title(f"{name}: {what} {band.through.mean():.0%} of the time; {free} of {whole} vehicles without a stop", loc="left")
    _name_stops(axis, corridor, net)


def _runs(row: np.ndarray) -> np.ndarray:
    """Return [R, 2], where each run of True begins and ends."""
    return np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int))).reshape(-1, 2)


def _polygon(stops: Sequence[Stop], begin: int, end: int) -> list[tuple[float, float]]:
    """Return the band of those who are at the first of some stop lines between two seconds."""
    later_s = [stop.reached_s - stops[0].reached_s for stop in stops]
    there = [(begin + later, stop.at_m) for later, stop in zip(later_s, stops, strict=True)]
    return there + [(end + later, stop.at_m) for later, stop in zip(reversed(later_s), reversed(stops), strict=True)]


def _name_stops(axis: "Axes", corridor: Corridor, net: RoadNetwork) -> None:
    """Write the signals' names right of their stop lines; a name without room is left out."""
    above = -np.inf
    for stop in corridor.stops:
        if stop.at_m - above < NAME_ROOM * corridor.length_m:
            continue
        above = stop.at_m
        place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
        axis.annotate(shortened(net.signals[stop.signal].name, 12), (1.008, stop.at_m), fontsize=8, **place)


def _draw_key(figure: "Figure", legs: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=VEHICLE, linewidth=1, label="vehicle"),
        Line2D([], [], color=RED, linewidth=2.6, label="red"),
        Line2D([], [], color=YELLOW, linewidth=2.6, label="yellow"),
    ]
    bands_of = {BAND: "green band to the next signal", THROUGH: "past all signals"}
    handles += [Patch(facecolor=colour, label=label) for colour, label in list(bands_of.items())[2 - min(legs, 2) :]]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, columnspacing=1.4)
