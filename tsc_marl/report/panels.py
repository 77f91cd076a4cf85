"""Figures of the page on one network: learning curves and final delays."""

from collections.abc import Mapping, Sequence

import numpy as np

from tsc_marl.report.network_data import NetworkResults, band
from tsc_marl.report.plots import AXES, Style, draw_curves, draw_ends, name_controllers
from tsc_marl.report.svg import GREY, PALE, PagePanel, new_panel

SIZE_IN, WIDE_IN = (2.9, 2.1), 4.4
"""Width and height of a panel that stands beside two others, and the width of one with names beside its rows [in]."""


def highlighted(results: NetworkResults, styles: Mapping[str, Style], names: Sequence[str]) -> list[PagePanel]:
    """Return a panel for each group: its learning curve, with the others pale behind it and the same axes."""
    curves = {name: band(results.groups[name], "episode") for name in names}
    shown = [values for _, *of in curves.values() for values in of] + list(results.comparison.training_thresholds.values())
    limits = 0.95 * min(map(np.min, shown)), 1.05 * max(map(np.max, shown))
    panels = []
    for name in names:
        figure, axis = new_panel(*SIZE_IN, name)
        for other in names:
            if other != name:
                axis.plot(curves[other][0], curves[other][2], color=PALE, linewidth=1)
        draw_curves(axis, results, styles, [name], "episode")
        name_controllers(axis, results, inside=True)
        axis.set(ylim=limits, ylabel="delay [s]")
        panels.append(PagePanel(figure, _text(results, name, curves[name][2])))
    return panels


def _text(results: NetworkResults, name: str, delay: np.ndarray) -> str:
    episodes = results.groups[name][0].curve["episode"][-1]
    return f"Training delay of {name}: {delay[0]:.0f} s at first, {delay[-1]:.1f} s after {episodes:.0f} episodes."


def together(results: NetworkResults, styles: Mapping[str, Style], names: Sequence[str], key: str) -> PagePanel:
    """Return the learning curves of groups on one pair of axes, over `key` of `plots.AXES`."""
    figure, axis = new_panel(*SIZE_IN, f"all, over {AXES[key]}")
    draw_curves(axis, results, styles, names, key)
    name_controllers(axis, results, inside=True)
    axis.set_ylabel("delay [s]")
    return PagePanel(figure, f"Training delay of {', '.join(names)} over {AXES[key]}; the table has their ends.")


def ends(results: NetworkResults, styles: Mapping[str, Style], names: Sequence[str]) -> list[PagePanel]:
    """Return the final delays of groups with intervals and trainings, beside the controllers."""
    rows = len(names) + len(results.comparison.baseline_delays)
    figure, axis = new_panel(WIDE_IN, 0.75 + 0.24 * rows, "final delay")
    order = draw_ends(axis, results, styles, names)
    axis.spines["left"].set_color(GREY)
    numbers = [f"{name} {delay:.1f} s" for delay, name in reversed(order)]
    hints = {f"end-{y}": f"{name} {delay:.1f} s" for y, (delay, name) in enumerate(order)}
    return [PagePanel(figure, f"Final delay, best first: {', '.join(numbers)}.", hints)]
