"""The learning curve of training runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tsc_marl.tracking.colours import of_algorithms
from tsc_marl.viz.plotting import new_figure


def draw(
    path: Path, histories: Mapping[str, Sequence[Mapping[str, float]]], baseline_delays: Mapping[str, float], title: str
) -> None:
    """Draw the training delay over episodes and over minutes.

    Args:
        path: PNG to write.
        histories: per run the metrics of each update: `episode`, `minutes`, `delay`, and `low` and `high` of a band. A name that
            starts with an algorithm's gets the colour of the algorithm.
        baseline_delays: delay [s] of each classical controller, a horizontal line each.
        title: above both plots.
    """
    figure, known = new_figure(figsize=(8.8, 3.6), layout="constrained"), of_algorithms()
    colours = [known.get(name.partition(" ")[0], f"C{i}") for i, name in enumerate(histories)]
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (key, label) in zip(axes, (("episode", "training episodes"), ("minutes", "minutes of training")), strict=True):
        for colour, (name, history) in zip(colours, histories.items(), strict=True):
            x, y = np.array([[row[key], row["delay"]] for row in history]).T
            axis.plot(x, y, color=colour, label=name, linewidth=1.3)
            if "low" in history[0]:
                low, high = np.array([[row["low"], row["high"]] for row in history]).T
                axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
        for i, (name, delay) in enumerate(baseline_delays.items()):
            axis.axhline(delay, color="black", linestyle=("--", ":", "-.")[i % 3], linewidth=1, label=name)
        axis.set_xlabel(label)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:.0f}")
        axis.yaxis.set_minor_formatter("{x:.0f}")
        axis.grid(alpha=0.3, which="both")
    axes[0].xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("delay [s per scheduled vehicle]")
    axes[1].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
