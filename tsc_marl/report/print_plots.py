"""Plots of the report for a paper, by matplotlib: PNG and PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsc_marl.analysis import summaries
from tsc_marl.paths import file_name
from tsc_marl.report.curves import DELAY
from tsc_marl.report.network_data import NetworkResults, band
from tsc_marl.report.style import GREY, SeriesStyle, shade
from tsc_marl.viz.plotting import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {"episode": "training episodes", "minutes": "minutes of training"}
FAR = 1.5
"""Ratio to the largest delay of a training, above which a controller is a number at the edge of the plot."""
STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw(folder: Path, networks: Sequence[NetworkResults], styles: Mapping[str, SeriesStyle]) -> list[list[Path]]:
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


def _together(networks: Sequence[NetworkResults], styles: Mapping[str, SeriesStyle]) -> "Figure":
    """Draw a column for each network: learning curves above, final delays below."""
    rows = max(len(results.groups) + len(results.comparison.baseline_delays) for results in networks)
    size = (1.2 + 3.0 * len(networks), 3.5 + 0.2 * rows)
    figure = new_figure(figsize=size, layout="constrained")
    axes = figure.subplots(2, len(networks), height_ratios=(2.4, 0.5 + 0.2 * rows), squeeze=False)
    for (above, below), results in zip(axes.T, networks, strict=True):
        above.set_title(results.network, fontsize=10)
        _draw_curves(above, results, styles, "episode")
        _name_baselines(above, results)
        _draw_ends(below, results, styles)
    axes[0, 0].set_ylabel(DELAY)
    names = {name: line for axis in axes[0] for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(names.values()), list(names), loc="outside upper center", ncols=6, frameon=False)
    return figure


def _curves(results: NetworkResults, styles: Mapping[str, SeriesStyle]) -> "Figure":
    figure = new_figure(figsize=(7, 2.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key in zip(axes, AXES, strict=True):
        _draw_curves(axis, results, styles, key)
    _name_baselines(axes[-1], results)
    axes[0].set_ylabel("delay [s per vehicle]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def _draw_curves(axis: "Axes", results: NetworkResults, styles: Mapping[str, SeriesStyle], key: str) -> None:
    for name, trainings in results.groups.items():
        x, low, middle, high = band(trainings, key)
        style = styles[name]
        axis.fill_between(x, low, high, color=style.colour, alpha=shade(len(results.groups)), linewidth=0)
        axis.plot(x, middle, color=style.colour, linestyle=STYLES[style.dash], linewidth=1.4, label=name)
    for delay in results.comparison.training_thresholds.values():
        axis.axhline(delay, color=GREY, linestyle="--", linewidth=0.8)
    axis.set_xlabel(AXES[key])
    axis.set_xlim(left=0)
    axis.set_yscale("log")
    _logarithmic(axis.yaxis, (1, 2, 3, 5))


def _name_baselines(axis: "Axes", results: NetworkResults) -> None:
    """Write the classical controllers' names right of their lines."""
    for name, delay in results.comparison.training_thresholds.items():
        place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
        axis.annotate(name, (1.01, delay), fontsize=7, color=GREY, **place)


def _final(results: NetworkResults, styles: Mapping[str, SeriesStyle]) -> "Figure":
    rows = len(results.groups) + len(results.comparison.baseline_delays)
    figure = new_figure(figsize=(5, 0.7 + 0.28 * rows), layout="constrained")
    _draw_ends(figure.subplots(), results, styles)
    return figure


def _draw_ends(axis: "Axes", results: NetworkResults, styles: Mapping[str, SeriesStyle]) -> None:
    """Draw the final delays; a classical controller far above all trainings is a number at the edge."""
    means = {name: summary.delay for name, summary in results.summaries.items()} | dict(results.comparison.baseline_delays)
    order = sorted(means, key=lambda name: -means[name])
    largest = FAR * max(training.delay.mean() for training in results.trainings)
    for y, name in enumerate(order):
        if name in results.summaries:
            summary, colour = results.summaries[name], styles[name].colour
            ends = summaries.delays(results.groups[name]).mean(axis=1)
            axis.plot(
                ends, [y] * len(ends), "o", markerfacecolor="none", markeredgecolor=colour, markersize=4, markeredgewidth=0.7
            )
            axis.plot(summary.interval, (y, y), color=colour, linewidth=1.8)
            axis.plot(summary.delay, y, "o", color=colour, markersize=6)
        elif means[name] <= largest:
            axis.plot(means[name], y, "D", color=GREY, markersize=5)
        else:
            edge = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "center", "color": GREY}
            axis.annotate(f"{means[name]:.0f} →", (1, y), **edge)
    shown = [training.delay.mean() for training in results.trainings]
    shown += [delay for delay in results.comparison.baseline_delays.values() if delay <= largest]
    if max(shown) > 4 * min(shown):
        axis.set_xscale("log")
        _logarithmic(axis.xaxis, (1, 2, 5))
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.set_xlabel(DELAY)
    axis.grid(axis="x", alpha=0.3, which="both")


def _logarithmic(axis: Any, digits: tuple[int, ...]) -> None:
    """Label these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
