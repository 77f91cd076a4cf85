"""Heat maps over signals and training: what a training logs of each signal."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.tracking.curves import OF_SIGNAL, Curves
from tsc_marl.viz.plotting import new_figure

REWARD = "reward"
CREDIT = {
    "effect_on_others": "effect on others",
    "own_effect": "effect on itself",
    "share_on_others": "share of the effect on others",
    "action_gap": "gap between its two best phases",
    "laziness": "laziness",
    "entropy": "entropy of its policy [nat]",
    "kl": "change of its policy, KL [nat]",
}
"""Metrics that an algorithm may log of each signal as `agent/<signal>/<metric>`, in the order of the panels: their titles."""
COLUMNS = 2
NAMED = 40
"""Most signals whose names stand beside the rows."""
LONGEST = 16
"""Characters of a signal's name beside its row."""


def draw(path: Path, curves: Curves, title: str) -> list[Path]:
    """Draw a heat map for each metric of the signals: a row for each signal, episodes from left to right.

    Args:
        path: PNG to write.
        curves: of a training, by the names inside the program.
        title: above the maps.

    Returns the path; nothing where no metric of a signal was logged.
    """
    titles = {REWARD: "local reward per episode", **CREDIT}
    of_signals = [name.removeprefix(OF_SIGNAL).rpartition("/")[::2] for name in curves if name.startswith(OF_SIGNAL)]
    signals = list(dict.fromkeys(signal for signal, _ in of_signals))
    drawn = [name for name in titles if name in {metric for _, metric in of_signals}]
    if not drawn:
        return []
    rows, height = -(-len(drawn) // COLUMNS), 1.0 + min(0.16 * len(signals), 5.0)
    figure = new_figure(figsize=(10.5, 0.6 + rows * height), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, metric in zip(axes, drawn, strict=False):
        values = _values(curves, signals, metric)
        low, high = np.nanpercentile(values, (1, 99)) if np.isfinite(values).any() else (0.0, 1.0)
        episodes = curves["episode"][:, 1]
        image = axis.imshow(
            values, aspect="auto", interpolation="nearest", cmap="viridis", vmin=low, vmax=max(high, low + 1e-9),
            extent=(0, episodes[-1], len(signals) - 0.5, -0.5),
        )  # fmt: skip
        axis.set_title(titles[metric], fontsize=9)
        axis.set_yticks(range(len(signals)) if len(signals) <= NAMED else [], _labels(signals)[: NAMED + 1], fontsize=6)
        axis.tick_params(axis="x", labelsize=7)
        figure.colorbar(image, ax=axis).ax.tick_params(labelsize=7)
    for axis in axes[max(0, len(drawn) - COLUMNS) : len(drawn)]:
        axis.set_xlabel("training episodes", fontsize=8)
    for axis in axes[len(drawn) :]:
        axis.remove()
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    return [path]


def _labels(signals: Sequence[str]) -> list[str]:
    return [shortened(name, LONGEST) for name in signals] if len(signals) <= NAMED else []


def _values(curves: Curves, signals: Sequence[str], metric: str) -> np.ndarray:
    """Return a metric [signal, update]; nan where it was not logged."""
    steps = curves["episode"][:, 0]
    values = np.full((len(signals), len(steps)), np.nan)
    for row, signal in zip(values, signals, strict=True):
        points = curves.get(f"{OF_SIGNAL}{signal}/{metric}", np.empty((0, 2)))
        row[np.searchsorted(steps, points[:, 0])] = points[:, 1]
    return values
