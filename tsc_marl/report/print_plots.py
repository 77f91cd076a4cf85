"""Plots of the report for a paper: PNG and PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tsc_marl.paths import file_name
from tsc_marl.report.network_data import NetworkResults
from tsc_marl.report.plots import AXES, DELAY, Style, draw_curves, draw_ends, name_controllers
from tsc_marl.viz.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(folder: Path, networks: Sequence[NetworkResults], styles: Mapping[str, Style]) -> list[list[Path]]:
    """Write `<network>_learning_curves` and `<network>_final_delay` as PNG and PDF; of several networks `all_networks` too.

    Returns the files of each network.
    """
    import matplotlib as mpl

    def write(name: str, figure: "Figure") -> list[Path]:
        files = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
        for file in files:
            figure.savefig(file, dpi=200)
        return files

    with mpl.rc_context({"pdf.fonttype": 42, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        both = write("all_networks", _together(networks, styles)) if len(networks) > 1 else []
        return [
            write(file_name(f"{results.network}_learning_curves"), _curves(results, styles))
            + write(file_name(f"{results.network}_final_delay"), _final(results, styles))
            + both
            for results in networks
        ]


def _together(networks: Sequence[NetworkResults], styles: Mapping[str, Style]) -> "Figure":
    """Draw a column for each network: learning curves above, final delays below."""
    rows = max(len(results.groups) + len(results.comparison.baseline_delays) for results in networks)
    size = (1.2 + 3.0 * len(networks), 3.5 + 0.2 * rows)
    figure = new_figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(networks), height_ratios=(2.4, 0.5 + 0.2 * rows), squeeze=False)
    for (above, below), results in zip(axes.T, networks, strict=True):
        above.set_title(results.network, fontsize=10)
        draw_curves(above, results, styles, results.groups, "episode")
        name_controllers(above, results)
        draw_ends(below, results, styles, results.groups)
    axes[0, 0].set_ylabel(DELAY)
    names = {name: line for axis in axes[0] for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(names.values()), list(names), loc="outside upper center", ncols=6, frameon=False)
    return figure


def _curves(results: NetworkResults, styles: Mapping[str, Style]) -> "Figure":
    figure = new_figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key in zip(axes, AXES, strict=True):
        draw_curves(axis, results, styles, results.groups, key)
    name_controllers(axes[-1], results)
    axes[0].set_ylabel("delay [s per vehicle]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def _final(results: NetworkResults, styles: Mapping[str, Style]) -> "Figure":
    rows = len(results.groups) + len(results.comparison.baseline_delays)
    figure = new_figure(figsize=(5, 0.7 + 0.28 * rows), layout="constrained")
    draw_ends(figure.subplots(), results, styles, results.groups)
    return figure
