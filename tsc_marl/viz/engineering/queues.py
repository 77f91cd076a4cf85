"""Queue profiles: the queue of an approach over time, a line for each policy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tsc_marl.viz.engineering.played import Played
from tsc_marl.viz.engineering.sheet import clock_axis, new_sheet
from tsc_marl.viz.plotting import line_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_APPROACHES = 12
"""Approaches with a profile: those with the longest mean queue under one of the policies."""
COLUMNS = 2
INTERVALS = 120
"""Queues are drawn as the largest of each of so many intervals, of at least `LEAST_S`."""
LEAST_S = 15


def draw(names: list[str], played: Mapping[str, Played], algorithms: Mapping[str, str], title: str) -> "Figure":
    """Return the figure: a panel for each of the approaches with the longest queues, all on one scale.

    Args:
        names: [E] of the approaches.
        played: by policy.
        algorithms: by policy, its algorithm or controller, for the colour.
        title: above the figure.
    """
    means = np.max([episode.queue.mean(axis=0) for episode in played.values()], axis=0)
    shown = np.argsort(-means, kind="stable")[:MOST_APPROACHES]
    if len(shown) < len(names):
        title = f"{title}; {len(shown)} of {len(names)} approaches"
    duration_s = len(next(iter(played.values())).queue)
    rows = -(-len(shown) // COLUMNS)
    figure = new_sheet(1.2 + 1.05 * rows, title)
    axes = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axis, k in zip(axes.flat, shown, strict=False):
        for name, style in line_styles(algorithms).items():
            largest = _largest(played[name].queue[:, k])
            axis.stairs(largest, _edges(duration_s), baseline=None, linewidth=1.1, label=name, **style)
        axis.set_title(names[k], loc="left", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    axes[0, 0].set(xlim=(0, duration_s), ylim=(0, None))
    axes[0, 0].yaxis.get_major_locator().set_params(integer=True)
    for axis in axes[-1]:
        clock_axis(axis, 2 * duration_s)
        axis.set_xlabel("time [min:s]")
    figure.supylabel("queue [veh]", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False)
    return figure


def interval_s(duration_s: int) -> int:
    """Return the length of an interval in a window."""
    return max(LEAST_S, -(-duration_s // INTERVALS))


def _edges(duration_s: int) -> np.ndarray:
    return np.append(np.arange(0, duration_s, interval_s(duration_s)), duration_s)


def _largest(queue: np.ndarray) -> np.ndarray:
    """Return the largest queue of each interval."""
    return np.maximum.reduceat(queue, _edges(len(queue))[:-1])
