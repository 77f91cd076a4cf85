"""Where the delay is: a road map for each controller, coloured by the delay of each approach."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import sumolib

from tsc_marl.sim import metrics, roadnet
from tsc_marl.sim.scenario import Scenario

COLUMNS = 4
WIDEST = 7.0
"""Points of the line at the approach where most time is lost."""


def draw(path: Path, scenario: Scenario, out: Path, seeds: Mapping[str, Sequence[int]]) -> None:
    """Draw one map per controller, side by side with one scale: colour is delay per vehicle, width the time lost in total.

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

    net, roads = roadnet.read(scenario.net), shapes(scenario.net)
    lost = {name: _mean(net, out / name, played) for name, played in seeds.items()}
    every = [approach for approaches in lost.values() for approach in approaches.values() if approach.vehicles >= 1]
    colours = Normalize(0, max(1.0, float(np.percentile([approach.delay_s for approach in every], 95))))
    most_s = max(max(approach.lost_s for approach in every), 1.0)
    rows, columns = -(-len(lost) // COLUMNS), min(COLUMNS, len(lost))
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 4 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, approaches) in zip(axes.flat, lost.items(), strict=False):
        axis.add_collection(LineCollection(list(roads.values()), colors="0.82", linewidths=0.8, zorder=1))
        used = [edge for edge in approaches if edge in roads and approaches[edge].vehicles >= 1]
        used.sort(key=lambda edge: approaches[edge].delay_s)
        widths = [1 + WIDEST * np.sqrt(approaches[edge].lost_s / most_s) for edge in used]
        values = np.array([approaches[edge].delay_s for edge in used])
        lines = [roads[edge] for edge in used]
        axis.add_collection(LineCollection(lines, array=values, cmap="plasma_r", norm=colours, linewidths=widths, zorder=2))
        axis.scatter(*np.array([(signal.x, signal.y) for signal in net.signals]).T, s=9, color="black", zorder=3)
        axis.autoscale()
        axis.set_aspect("equal")
        axis.set_title(name)
    bar = figure.colorbar(ScalarMappable(colours, "plasma_r"), ax=axes, shrink=0.6, extend="max")
    bar.set_label("delay per vehicle on the approach and before it [s]")
    figure.suptitle(f"{scenario.name}: where time is lost (width: in total; dots: signals; one scale for all controllers)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mean(net: roadnet.RoadNet, folder: Path, seeds: Sequence[int]) -> dict[str, metrics.Approach]:
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
