"""The same figures for a paper, by matplotlib: PNG and PDF."""

from collections.abc import Mapping
from pathlib import Path

from tsc_marl import compare
from tsc_marl.page.figures import DELAY
from tsc_marl.page.findings import Findings, band
from tsc_marl.page.style import GREY, Look, shade

STYLES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}


def draw(folder: Path, findings: Findings, looks: Mapping[str, Look]) -> list[Path]:
    """Write `<network>_learning_curves` and `<network>_final_delay` as PNG and PDF; return the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    files = []
    with mpl.rc_context({"pdf.fonttype": 42, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for name, figure in (("learning_curves", _curves(plt, findings, looks)), ("final_delay", _final(plt, findings, looks))):
            for suffix in ("png", "pdf"):
                files.append(folder / f"{findings.network}_{name}.{suffix}")
                figure.savefig(files[-1], dpi=200)
            plt.close(figure)
    return files


def _curves(plt, findings: Findings, looks: Mapping[str, Look]):
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), sharey=True, layout="constrained")
    axes[0].set_yscale("log")
    for axis, (key, label) in zip(axes, (("episode", "training episodes"), ("minutes", "minutes of training")), strict=True):
        for name, trainings in findings.groups.items():
            x, low, middle, high = band(trainings, key)
            look = looks[name]
            axis.fill_between(x, low, high, color=look.colour, alpha=shade(len(findings.groups)), linewidth=0)
            axis.plot(x, middle, color=look.colour, linestyle=STYLES[look.dash], linewidth=1.4, label=name)
        for name, level in findings.comparison.levels.items():
            axis.axhline(level, color=GREY, linestyle="--", linewidth=0.8)
            if key == "minutes":
                axis.annotate(
                    name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, color=GREY
                )
        axis.set_xlabel(label)
        axis.set_xlim(left=0)
        _logarithmic(axis.yaxis)
    axes[0].set_ylabel("delay [s per vehicle]")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    return figure


def _final(plt, findings: Findings, looks: Mapping[str, Look]):
    means = {name: summary.delay for name, summary in findings.summaries.items()} | dict(findings.comparison.levels)
    order = sorted(means, key=lambda name: -means[name])
    figure, axis = plt.subplots(figsize=(5, 0.7 + 0.28 * len(order)), layout="constrained")
    for y, name in enumerate(order):
        if name not in looks or name not in findings.summaries:
            axis.plot(means[name], y, "D", color=GREY, markersize=5)
            continue
        summary, colour = findings.summaries[name], looks[name].colour
        ends = compare.delays(findings.groups[name]).mean(axis=1)
        axis.plot(ends, [y] * len(ends), "o", markerfacecolor="none", markeredgecolor=colour, markersize=4, markeredgewidth=0.7)
        axis.plot(summary.interval, (y, y), color=colour, linewidth=1.8)
        axis.plot(summary.delay, y, "o", color=colour, markersize=6)
    if means[order[0]] > 4 * means[order[-1]]:
        axis.set_xscale("log")
        _logarithmic(axis.xaxis)
    axis.set_yticks(range(len(order)), order)
    axis.set_ylim(-0.6, len(order) - 0.4)
    axis.set_xlabel(DELAY)
    axis.grid(axis="x", alpha=0.3, which="both")
    return figure


def _logarithmic(axis):
    """Label 1, 2, 3 and 5 times each power of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
