"""The same figures for a paper, by matplotlib: PNG and PDF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tsc_marl.analysis import compare
from tsc_marl.report.curves import DELAY
from tsc_marl.report.network_data import NetworkResults, band
from tsc_marl.report.style import GREY, SeriesStyle, shade

AXES = {"episode": "training episodes", "minutes": "minutes of training"}
FAR = 1.5
"""Times the worst training: beyond it a controller would press all others together."""
STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw(folder: Path, found: Sequence[NetworkResults], looks: Mapping[str, SeriesStyle]) -> list[list[Path]]:
    """Write `<network>_learning_curves` and `<network>_final_delay` as PNG and PDF; of several networks `all_networks` too.

    Returns the files of each network.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def write(name: str, figure) -> list[Path]:
        files = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
        for file in files:
            figure.savefig(file, dpi=200)
        plt.close(figure)
        return files

    with mpl.rc_context({"pdf.fonttype": 42, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        both = write("all_networks", _together(plt, found, looks)) if len(found) > 1 else []
        return [
            write(f"{findings.network}_learning_curves", _curves(plt, findings, looks))
            + write(f"{findings.network}_final_delay", _final(plt, findings, looks))
            + both
            for findings in found
        ]


def _together(plt, found: Sequence[NetworkResults], looks: Mapping[str, SeriesStyle]):
    """Draw a column for each network: learning curves above, final delays below."""
    rows = max(len(findings.groups) + len(findings.comparison.baseline_delays) for findings in found)
    size = (1.2 + 3.0 * len(found), 3.5 + 0.2 * rows)
    figure, axes = plt.subplots(
        2, len(found), figsize=size, layout="constrained", height_ratios=(2.4, 0.5 + 0.2 * rows), squeeze=False
    )
    for (above, below), findings in zip(axes.T, found, strict=True):
        above.set_title(findings.network, fontsize=10)
        _draw_curves(above, findings, looks, "episode")
        _name_levels(above, findings)
        _draw_ends(below, findings, looks)
    axes[0, 0].set_ylabel(DELAY)
    names = {name: line for axis in axes[0] for line, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(names.values()), list(names), loc="outside upper center", ncols=6, frameon=False)
    return figure


def _curves(plt, findings: NetworkResults, looks: Mapping[str, SeriesStyle]):
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
    for axis, key in zip(axes, AXES, strict=True):
        _draw_curves(axis, findings, looks, key)
    _name_levels(axes[-1], findings)
    axes[0].set_ylabel("delay [s per vehicle]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def _draw_curves(axis, findings: NetworkResults, looks: Mapping[str, SeriesStyle], key: str) -> None:
    for name, trainings in findings.groups.items():
        x, low, middle, high = band(trainings, key)
        look = looks[name]
        axis.fill_between(x, low, high, color=look.colour, alpha=shade(len(findings.groups)), linewidth=0)
        axis.plot(x, middle, color=look.colour, linestyle=STYLES[look.dash], linewidth=1.4, label=name)
    for level in findings.comparison.training_thresholds.values():
        axis.axhline(level, color=GREY, linestyle="--", linewidth=0.8)
    axis.set_xlabel(AXES[key])
    axis.set_xlim(left=0)
    axis.set_yscale("log")
    _logarithmic(axis.yaxis, (1, 2, 3, 5))


def _name_levels(axis, findings: NetworkResults) -> None:
    """Write the classical controllers' names right of their lines."""
    for name, level in findings.comparison.training_thresholds.items():
        place = {"xycoords": ("axes fraction", "data"), "ha": "left", "va": "center"}
        axis.annotate(name, (1.01, level), fontsize=7, color=GREY, **place)


def _final(plt, findings: NetworkResults, looks: Mapping[str, SeriesStyle]):
    rows = len(findings.groups) + len(findings.comparison.baseline_delays)
    figure, axis = plt.subplots(figsize=(5, 0.7 + 0.28 * rows), layout="constrained")
    _draw_ends(axis, findings, looks)
    return figure


def _draw_ends(axis, findings: NetworkResults, looks: Mapping[str, SeriesStyle]) -> None:
    """Draw the final delays; a classical controller far above all trainings is a number at the edge."""
    means = {name: summary.delay for name, summary in findings.summaries.items()} | dict(findings.comparison.baseline_delays)
    order = sorted(means, key=lambda name: -means[name])
    largest = FAR * max(training.delay.mean() for training in findings.trainings)
    for y, name in enumerate(order):
        if name in findings.summaries:
            summary, colour = findings.summaries[name], looks[name].colour
            ends = compare.delays(findings.groups[name]).mean(axis=1)
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
    shown = [training.delay.mean() for training in findings.trainings]
    shown += [level for level in findings.comparison.baseline_delays.values() if level <= largest]
    if max(shown) > 4 * min(shown):
        axis.set_xscale("log")
        _logarithmic(axis.xaxis, (1, 2, 5))
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.set_xlabel(DELAY)
    axis.grid(axis="x", alpha=0.3, which="both")


def _logarithmic(axis, digits: tuple[int, ...]) -> None:
    """Label these multiples of each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=digits))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
