"""A map of a lock: the vehicles that stand, and an arrow from each to the one that blocks it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tsc_marl.sim.blockers import JunctionWays, StandingVehicle, junction_ways
from tsc_marl.sim.locks import Lock
from tsc_marl.viz.plotting import new_figure

FIRST, BEHIND = "#c1272d", "#e6a04b"
"""Colours of the vehicles that hold up all others, and of those."""
NEAR_M = 30.0
"""What the close view shows around the first vehicles."""
LABELLED = 12
"""More first vehicles have no room for their names."""


def draw(path: Path, net: Path, lock: Lock, title: str) -> None:
    """Draw a lock as it was seen: the whole network, and the place of the vehicles that hold up all others.

    Args:
        path: PNG to write.
        net: SUMO network file.
        lock: what to draw.
        title: of the picture.
    """
    ways = junction_ways(net)
    figure = new_figure(figsize=(11, 5.4), layout="constrained")
    whole, close = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    first = [lock.vehicles[name] for name in lock.first]
    fronts = np.array([vehicle.body[-1] for vehicle in first])
    low, high = fronts.min(axis=0) - NEAR_M, fronts.max(axis=0) + NEAR_M
    for axis, width in ((whole, 2.0), (close, 7.0)):
        _roads(axis, ways, close_up=axis is close)
        _bodies(axis, (v for name, v in lock.vehicles.items() if name not in lock.first), BEHIND, width)
        _bodies(axis, first, FIRST, width)
        axis.set_aspect("equal")
        axis.set_axis_off()
    whole.autoscale()
    whole.add_patch(_frame(low, high))
    close.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    _arrows(close, lock)
    for i, vehicle in enumerate(first[:LABELLED]):
        close.annotate(
            vehicle.name, vehicle.body[-1], (6, 16 - 24 * (i % 2)), textcoords="offset points", fontsize=8, zorder=6, clip_on=True
        )
    whole.set_title("vehicles that stand; red: those that hold up all others")
    close.set_title("who blocks whom: from a vehicle to the one in its way")
    figure.suptitle(title, wrap=True)
    figure.savefig(path, dpi=110)


def _roads(axis, ways: JunctionWays, close_up: bool) -> None:
    from matplotlib.collections import LineCollection

    inside = [shape for lane, shape in ways.shapes.items() if ways.junction(lane)]
    roads = [shape for lane, shape in ways.shapes.items() if not lane.startswith(":")]
    axis.add_collection(LineCollection(roads, colors="0.82", linewidths=9.0 if close_up else 0.8, zorder=1))
    if close_up:
        axis.add_collection(LineCollection(inside, colors="0.88", linewidths=0.8, zorder=1))


def _bodies(axis, vehicles: Iterable[StandingVehicle], colour: str, width: float) -> None:
    from matplotlib.collections import LineCollection

    bodies = [vehicle.body for vehicle in vehicles]
    axis.add_collection(LineCollection(bodies, colors=colour, linewidths=width, zorder=3, capstyle="butt"))


def _arrows(axis, lock: Lock) -> None:
    """Draw an arrow from the front of each vehicle to the middle of each that stands in its way."""
    for name, vehicle in lock.vehicles.items():
        for other in (other for other in vehicle.hold.blockers if other in lock.vehicles):
            body = lock.vehicles[other].body
            colour = FIRST if {name, other} <= set(lock.first) else "0.35"
            style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 0, "shrinkB": 0}
            axis.annotate(
                "", body[len(body) // 2], vehicle.body[-1], arrowprops=style, zorder=5, clip_on=True, annotation_clip=True
            )


def _frame(low: np.ndarray, high: np.ndarray):
    from matplotlib.patches import Rectangle

    return Rectangle(tuple(low), *(high - low), fill=False, edgecolor="0.2", linewidth=1.0, zorder=4)
