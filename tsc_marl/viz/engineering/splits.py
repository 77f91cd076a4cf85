"""Splits and cycles: the share of green of each phase, and the time from green to green."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.sim.lights import Lights
from tsc_marl.sim.road_network import Signal
from tsc_marl.viz.engineering.sheet import new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7A5195")
"""Colours of the phases 0 to 7, which repeat; those of policies are elsewhere."""
CHANGE = "#c9c9c9"
MOST_SIGNALS = 40
"""Signals with a row; of more, those that pass the most vehicles."""


@dataclass(frozen=True)
class Split:
    """What a signal with P phases showed over an episode."""

    share: np.ndarray
    """[P] share of the time in which a phase was green."""
    change: float
    """Share of the time without a phase: yellow, all-red, clearing."""
    cycles_s: np.ndarray
    """Times from one start of the phase with the most green to the next, in their order."""


def split(lights: Lights, phases: Sequence[str], duration_s: int) -> Split:
    """Return the split of a signal, second by second."""
    phase = lights.phases_at(phases, np.arange(duration_s))
    count = np.bincount(phase + 1, minlength=len(phases) + 1)
    longest = int(count[1:].argmax())
    starts = np.flatnonzero((phase[1:] == longest) & (phase[:-1] != longest)) + 1
    return Split(count[1:] / duration_s, count[0] / duration_s, np.diff(starts))


def draw(
    signals: Sequence[Signal], vehicles: np.ndarray, splits: Mapping[str, Sequence[Split]], title: str
) -> "Figure":  # fmt: skip
    """Return the figure: a row for each signal; for each policy a column of splits and one of cycle lengths.

    Args:
        signals: N of them.
        vehicles: [N] how many passed each of them.
        splits: [N] by policy.
        title: above the figure.
    """
    rows = np.sort(np.argsort(-vehicles, kind="stable")[:MOST_SIGNALS])
    if len(rows) < len(signals):
        title = f"{title} ({len(rows)} of {len(signals)} signals, those with the most vehicles)"
    figure = new_sheet(1.5 + 0.24 * max(len(rows), 3), title, max(6.4, 3.2 * len(splits)))
    figure.set_layout_engine("constrained", wspace=0.06)
    axes = figure.subplots(1, 2 * len(splits), sharey=True, width_ratios=(1.7, 1.0) * len(splits), squeeze=False)[0]
    cycles = [of.cycles_s for some in splits.values() for of in some if len(of.cycles_s)]
    longest_s = float(np.percentile(np.concatenate(cycles), 99)) * 1.08 if cycles else 1.0
    for left, right, (name, of_policy) in zip(axes[::2], axes[1::2], splits.items(), strict=True):
        for y, i in enumerate(rows):
            _draw_split(left, y, of_policy[i])
            _draw_cycles(right, y, of_policy[i].cycles_s, longest_s)
        left.set(xlim=(0, 100), xticks=(0, 50, 100), xlabel="share of time [%]")
        left.set_title(name, loc="left")
        right.set(xlim=(0, longest_s), xlabel="cycle [s]")
        right.xaxis.get_major_locator().set_params(nbins=3)
        right.grid(axis="x", alpha=0.3)
    for axis in axes[1:]:
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(range(len(rows)), [shortened(signals[i].name, 14) for i in rows], fontsize=8)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    _draw_key(figure, max(len(signals[i].phases) for i in rows))
    return figure


def _draw_split(axis: "Axes", y: int, of: Split) -> None:
    left = 0.0
    for phase, share in enumerate((*of.share, of.change)):
        colour = CHANGE if phase == len(of.share) else PHASES[phase % len(PHASES)]
        axis.barh(y, 100 * share, left=100 * left, height=0.78, color=colour)
        left += share


def _draw_cycles(axis: "Axes", y: int, cycles_s: np.ndarray, longest_s: float) -> None:
    """Draw the median as a dot and the middle 80 % as a line; what is longer than the axis ends there."""
    if not len(cycles_s):
        axis.annotate("none", (0, y), (3, 0), textcoords="offset points", va="center", fontsize=7, color="0.4")
        return
    low, middle, high = np.minimum(np.percentile(cycles_s, (10, 50, 90)), longest_s)
    axis.plot((low, high), (y, y), color="0.45", linewidth=1.6, solid_capstyle="butt")
    axis.plot(middle, y, "o", color="black", markersize=3.5)


def _draw_key(figure: "Figure", phases: int) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shown = min(phases, len(PHASES))
    handles: list = [Patch(facecolor=PHASES[phase], label=f"phase {phase}") for phase in range(shown)]
    handles.append(Patch(facecolor=CHANGE, label="yellow, all-red"))
    handles.append(Line2D([], [], color="0.45", marker="o", markerfacecolor="black", markeredgecolor="black", markersize=3.5,
                          label="cycle: median, middle 80 %"))  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // 2), frameon=False)
