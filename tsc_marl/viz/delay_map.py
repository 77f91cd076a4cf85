"""Where the delay is: a road map for each controller, coloured by the delay of each approach."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import sumolib

from tsc_marl.sim import metrics, road_network
from tsc_marl.sim.scenario import Scenario

COLUMNS = 4
WIDEST = 7.0
"""Points of the line where most time is lost."""


def draw(path: Path, scenario: Scenario, out: Path, seeds: Mapping[str, Sequence[int]]) -> None:
    """Draw one map per controller, side by side with one scale: colour is delay per vehicle, width the time lost in total.

    The scale ends where the worst approach of the controller in the middle is: one that gridlocks would hide the others.

    Args:
        path: PNG to write.
        scenario: the network.
        out: folder of the controllers' folders with SUMO's files.
        seeds: the episodes of each controller, over which the approaches are averaged.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    net, roads = road_network.read(scenario.net), shapes(scenario.net)
    lost = {name: _mean(net, out / name, played) for name, played in seeds.items()}
    used = {name: {edge: a for edge, a in found.items() if edge in roads and a.vehicles >= 1} for name, found in lost.items()}
    colours = Normalize(0, _middle([[approach.delay_s for approach in found.values()] for found in used.values()]))
    most_s = _middle([[approach.lost_s for approach in found.values()] for found in used.values()])
    rows, columns = -(-len(lost) // COLUMNS), min(COLUMNS, len(lost))
    width, height = np.ptp(np.concatenate(list(roads.values())), axis=0)
    size = (4 * columns, 0.5 + (0.4 + 4 * np.clip(height / max(width, 1.0), 0.5, 1.5)) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, found) in zip(axes.flat, used.items(), strict=False):
        axis.add_collection(LineCollection(list(roads.values()), colors="0.82", linewidths=0.8, zorder=1))
        order = sorted(found, key=lambda edge: found[edge].delay_s)
        widths = [1 + WIDEST * np.sqrt(min(1.0, found[edge].lost_s / most_s)) for edge in order]
        values = np.array([found[edge].delay_s for edge in order])
        lines = [roads[edge] for edge in order]
        axis.add_collection(LineCollection(lines, array=values, cmap="plasma_r", norm=colours, linewidths=widths, zorder=2))
        axis.scatter(*np.array([(signal.x, signal.y) for signal in net.signals]).T, s=9, color="black", zorder=3)
        axis.autoscale()
        axis.set_aspect("equal")
        axis.set_title(name)
    bar = figure.colorbar(ScalarMappable(colours, "plasma_r"), ax=axes, shrink=0.9, aspect=30, extend="max")
    bar.set_label("delay per vehicle [s]")
    figure.suptitle(
        f"{scenario.name}: time lost on each approach and before it (colour: per vehicle; width: in total; dots: signals)",
        wrap=True,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _middle(values: Sequence[Sequence[float]]) -> float:
    """Return the highest value of the controller in the middle, at least 1."""
    return max(1.0, float(np.median([max(found, default=0.0) for found in values])))


def _mean(net: road_network.RoadNetwork, folder: Path, seeds: Sequence[int]) -> dict[str, metrics.Approach]:
    """Return the approach, averaged over episodes, for every road that leads to it."""
    total: dict[str, metrics.Approach] = defaultdict(metrics.Approach)
    for seed in seeds:
        for edge, approach in metrics.detail(folder, seed, net)[1].items():
            for name, value in vars(approach).items():
                setattr(total[edge], name, getattr(total[edge], name) + value / len(seeds))
    return {edge: total[approach] for edge, approach in net.approach.items() if approach in total and not edge.startswith(":")}


def shapes(path: Path) -> dict[str, np.ndarray]:
    """Return the line of each road, in metres."""
    return {edge.getID(): np.array(edge.getShape())[:, :2] for edge in sumolib.net.readNet(str(path)).getEdges()}
