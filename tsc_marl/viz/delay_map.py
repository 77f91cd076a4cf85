"""Road maps of the delay: one for each controller, coloured by the delay of each approach."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tsc_marl.paths import file_name
from tsc_marl.sim import metrics, network_file, road_network
from tsc_marl.sim.scenario import Scenario
from tsc_marl.viz.plotting import new_figure

COLUMNS = 4
WIDEST = 5.5
"""Width in points of the line with the most time lost."""


def draw(path: Path, scenario: Scenario, out: Path, seeds: Mapping[str, Sequence[int]]) -> None:
    """Draw one map per controller with one scale: colour is delay per vehicle [s], width the time lost in total.

    The scale ends at the worst approach of the median controller: a gridlock under one controller does not hide the others.

    Args:
        path: PNG to write.
        scenario: the network.
        out: folder of the controllers' folders with SUMO's files, named by `file_name`.
        seeds: the episodes of each controller, over which the approaches are averaged.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    net, roads = road_network.of(scenario), shapes(scenario.net)
    means = {name: _mean(net, out / file_name(name), of_controller) for name, of_controller in seeds.items()}
    used = {
        name: {edge: mean for edge, mean in edges.items() if edge in roads and mean.vehicles >= 1}
        for name, edges in means.items()
    }
    colours = Normalize(0, _median_of_maxima([[approach.delay_s for approach in edges.values()] for edges in used.values()]))
    most_s = _median_of_maxima([[approach.lost_s for approach in edges.values()] for edges in used.values()])
    rows, columns = -(-len(used) // COLUMNS), min(COLUMNS, len(used))
    width, height = np.ptp(np.concatenate(list(roads.values())), axis=0)
    size = (3 * columns, 0.5 + (0.3 + 3 * np.clip(height / max(width, 1.0), 0.5, 1.5)) * rows)
    figure = new_figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (name, edges) in zip(axes.flat, used.items(), strict=False):
        axis.add_collection(LineCollection(list(roads.values()), colors="0.82", linewidths=0.8, zorder=1))
        order = sorted(edges, key=lambda edge: edges[edge].delay_s)
        widths = [1 + WIDEST * np.sqrt(min(1.0, edges[edge].lost_s / most_s)) for edge in order]
        values = np.array([edges[edge].delay_s for edge in order])
        lines = [roads[edge] for edge in order]
        axis.add_collection(LineCollection(lines, array=values, cmap="plasma_r", norm=colours, linewidths=widths, zorder=2))
        axis.scatter(*np.array([(signal.x, signal.y) for signal in net.signals]).T, s=6, color="black", zorder=3)
        axis.autoscale()
        axis.set_aspect("equal")
        axis.set_title(name)
    bar = figure.colorbar(ScalarMappable(colours, "plasma_r"), ax=axes, shrink=0.9, aspect=30, extend="max")
    bar.set_label("delay per vehicle [s]")
    figure.suptitle(
        f"{scenario.name}: time lost on each approach and before it (colour: per vehicle; width: in total; dots: signals)",
        wrap=True,
    )
    figure.savefig(path, dpi=147)


def _median_of_maxima(values: Sequence[Sequence[float]]) -> float:
    """Return the median over controllers of their largest value, at least 1."""
    return max(1.0, float(np.median([max(of_controller, default=0.0) for of_controller in values])))


def _mean(net: road_network.RoadNetwork, folder: Path, seeds: Sequence[int]) -> dict[str, metrics.Approach]:
    """Return, for every road, the metrics of the approach that it leads to, averaged over episodes."""
    total: dict[str, metrics.Approach] = defaultdict(metrics.Approach)
    for seed in seeds:
        for edge, approach in metrics.read_approaches(folder, seed, net).items():
            for name, value in vars(approach).items():
                setattr(total[edge], name, getattr(total[edge], name) + value / len(seeds))
    return {edge: total[approach] for edge, approach in net.approach.items() if approach in total and not edge.startswith(":")}


def shapes(path: Path) -> dict[str, np.ndarray]:
    """Return the line of each road, in metres."""
    return {edge.getID(): np.array(edge.getShape())[:, :2] for edge in network_file.read(path)[0].getEdges(withInternal=False)}
