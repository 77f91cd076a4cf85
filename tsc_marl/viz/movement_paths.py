"""Movements through a signal as lines, for drawings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from tsc_marl.sim.road_network import Signal, edge_of


@dataclass(frozen=True)
class MovementPath:
    """The movement from one road to another through a signal."""

    name: str
    shape: np.ndarray
    """[3, 2] in metres: before the stop line, at it, behind the signal."""
    links: list[int] = field(default_factory=list)
    """Places of its links in the signal's state, a lane each."""

    def signal_colour(self, state: str) -> str:
        """Return `g` if one of its lanes has green, else `y` if one has yellow, else `r`."""
        shown = {state[link].lower() for link in self.links}
        return next((char for char in "gy" if char in shown), "r")


def movement_paths(signal: Signal, shape_of: Callable[[str], Iterable[tuple[float, ...]]], back_m: float) -> list[MovementPath]:
    """Return the movements through a signal, one for each pair of roads.

    Args:
        signal: signal of the network.
        shape_of: returns the points of a lane [m].
        back_m: largest length of the line before the stop line.
    """
    paths: dict[str, MovementPath] = {}
    for link in signal.links:
        name = f"{signal.name} {edge_of(link.in_lane)} {edge_of(link.out_lane)}"
        if name not in paths:
            before, after = (np.array(list(shape_of(lane)))[:, :2] for lane in (link.in_lane, link.out_lane))
            back = before[-2] - before[-1]
            start = before[-1] + back * min(1.0, back_m / max(float(np.hypot(*back)), 1e-6))
            paths[name] = MovementPath(name, np.stack([start, before[-1], after[0]]))
        paths[name].links.append(link.link)
    return list(paths.values())
