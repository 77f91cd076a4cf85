"""The ways through a signal as lines, for drawings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from tsc_marl.sim.road_network import Signal, edge_of


@dataclass(frozen=True)
class MovementPath:
    """From one road to another through a signal."""

    name: str
    shape: np.ndarray
    """[3, 2] in metres: before the stop line, at it, behind the signal."""
    links: list[int] = field(default_factory=list)
    """Its places in the signal's state, a lane each."""

    def signal_colour(self, state: str) -> str:
        """Return `g` where one of its lanes has green, else `y` where one has yellow, else `r`."""
        shown = {state[link].lower() for link in self.links}
        return next((char for char in "gy" if char in shown), "r")


def movement_paths(signal: Signal, shape_of: Callable[[str], Iterable[tuple[float, ...]]], back_m: float) -> list[MovementPath]:
    """Return the ways through a signal, one for each pair of roads.

    Args:
        signal: of the network.
        shape_of: returns a lane's points.
        back_m: how long the line is before the stop line, at most.
    """
    found: dict[str, MovementPath] = {}
    for movement in signal.links:
        name = f"{signal.name} {edge_of(movement.in_lane)} {edge_of(movement.out_lane)}"
        if name not in found:
            before, after = (np.array(list(shape_of(lane)))[:, :2] for lane in (movement.in_lane, movement.out_lane))
            back = before[-2] - before[-1]
            start = before[-1] + back * min(1.0, back_m / max(float(np.hypot(*back)), 1e-6))
            found[name] = MovementPath(name, np.stack([start, before[-1], after[0]]))
        found[name].links.append(movement.link)
    return list(found.values())
