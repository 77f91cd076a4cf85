"""Level of service of approaches and signals under several policies, as a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.viz.engineering.played import Played
from tsc_marl.viz.engineering.sheet import new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LIMITS_S = (10.0, 20.0, 35.0, 55.0, 80.0)
"""Largest control delay of the levels A to E, from the Highway Capacity Manual for signals."""
LEVELS = "ABCDEF"
KEY = f"LOS: {', '.join(f'{letter} to {limit:.0f} s' for letter, limit in zip(LEVELS, LIMITS_S, strict=False))}, F above"
COLOURS = ("#4575b4", "#74add1", "#abd9e9", "#fdae61", "#f46d43", "#a50026")
MOST_ROWS = 44
"""Rows of the table; approaches without room are in the file of numbers only."""
NONE = "–"
"""Level, delay and change of an approach that no vehicle came to."""
ALL = "all"
"""Name of the row of a signal in the file of numbers."""
FORMATS = {"veh": "d", "delay [s]": ".1f", "change [s]": "+.1f"}
MEASURED = ("veh", "delay [s]", "LOS")
COLUMNS_IN = {"": 1.9, "veh": 0.45, "delay [s]": 0.6, "LOS": 0.4, "change [s]": 0.75}


@dataclass(frozen=True)
class Service:
    """Service of one approach, or of a signal over all of its approaches."""

    signal: str
    approach: str
    """Name of its edge; `ALL` for the signal."""
    vehicles: int
    """Vehicles that passed the stop line."""
    delay_s: float
    """Control delay per vehicle that passed; infinite where vehicles came and nobody did."""
    queue_mean: float
    """Mean over the seconds of vehicles that halt or wait to be inserted."""
    queue_p95: float
    queue_max: int

    @property
    def level(self) -> str:
        """The level, A to F; `NONE` where no vehicle came."""
        return level(self.delay_s) if self.came else NONE

    @property
    def came(self) -> bool:
        """Whether a vehicle passed, or came and could not."""
        return self.vehicles > 0 or math.isinf(self.delay_s)


def level(delay_s: float) -> str:
    """Return the level of service of a control delay [s].

    >>> [level(seconds) for seconds in (0.0, 10.0, 10.1, 79.9, 80.1)]
    ['A', 'A', 'B', 'E', 'F']
    """
    return LEVELS[int(np.searchsorted(LIMITS_S, delay_s))]


def services(signals: Sequence[str], edges: Sequence[str], signal_of: Sequence[int], played: Played) -> list[Service]:
    """Return each signal, with its approaches behind it.

    Args:
        signals: [N] names.
        edges: [E] names of the approaches.
        signal_of: [E] number of the signal.
        played: the episode.
    """
    rows = []
    for i, signal in enumerate(signals):
        own = [k for k, of in enumerate(signal_of) if of == i]
        rows += [_service(signal, ALL, own, played), *(_service(signal, edges[k], [k], played) for k in own)]
    return rows


def _service(signal: str, name: str, own: Sequence[int], played: Played) -> Service:
    passed, queue = int(played.passed[own].sum()), played.queue[:, own].sum(axis=1)
    lost_s = float(played.lost_s[own].sum())
    delay_s = lost_s / passed if passed else math.inf if lost_s >= 1 else 0.0
    return Service(signal, name, passed, delay_s, float(queue.mean()), float(np.percentile(queue, 95)), int(queue.max()))


def draw(rows: Mapping[str, Sequence[Service]], title: str) -> "Figure":
    """Return the table: signals, and their approaches where there is room; the policy before, then those after it.

    Args:
        rows: by policy, from `services`; all in one order. The changes count from the first policy.
        title: above the table.
    """
    order, baseline = list(rows), next(iter(rows))
    lines = [dict(zip(order, line, strict=True)) for line in zip(*(rows[name] for name in order), strict=True)]
    grouped = len(lines) <= MOST_ROWS
    if not grouped:
        lines = [line for line in lines if line[baseline].approach == ALL]
    if len(lines) > MOST_ROWS:
        title = f"{title} ({MOST_ROWS} of {len(lines)} signals, those with the most delay)"
        lines = sorted(lines, key=lambda line: -max(of.delay_s for of in line.values()))[:MOST_ROWS]
    columns = [("", "")]
    for name in order:
        columns += [(name, kind) for kind in ("veh", "delay [s]", "LOS", "change [s]") if name != baseline or kind in MEASURED]
    ends = np.cumsum([COLUMNS_IN[kind] for _, kind in columns])
    figure = new_sheet(0.75 + 0.19 * (len(lines) + 3), title, max(6.4, ends[-1] + 0.2))
    axis = figure.subplots()
    axis.set(xlim=(0, ends[-1]), ylim=(len(lines) + 0.7, -2.5))
    axis.set_axis_off()
    _draw_heads(axis, columns, ends)
    axis.text(0.02, len(lines) + 0.1, KEY, ha="left", va="center", fontsize=7.5)
    for y, line in enumerate(lines):
        of_signal = line[baseline].approach == ALL
        axis.axhline(y - 0.5, color="0.8", linewidth=0.5 if of_signal and y else 0)
        style = {"fontsize": 8, "va": "center", "fontweight": "bold" if of_signal and grouped else "normal"}
        name = line[baseline].signal if of_signal else f"   {line[baseline].approach}"
        axis.text(0.02, y, shortened(name, 26), ha="left", **style)
        _draw_numbers(axis, y, dict(zip(columns[1:], ends[1:].tolist(), strict=True)), line, line[baseline].delay_s, style)
    return figure


def _draw_heads(axis: "Axes", columns: Sequence[tuple[str, str]], ends: np.ndarray) -> None:
    for j, (name, kind) in enumerate(columns):
        at, side = (ends[j] - 0.17, "center") if kind == "LOS" else (ends[j] - 0.05, "right")
        axis.text(at, -1.0, kind, ha=side, va="center", fontsize=8)
        if kind == "veh":
            axis.text(ends[j - 1] + 0.08, -1.95, shortened(name, 22), ha="left", va="center", fontsize=8.5, fontweight="bold")
    axis.axhline(-0.58, color="black", linewidth=0.8)


def _draw_numbers(
    axis: "Axes", y: int, ends: Mapping[tuple[str, str], float], line: Mapping[str, Service], before_s: float,
    style: Mapping[str, Any],
) -> None:  # fmt: skip
    from matplotlib.patches import Rectangle

    for (policy, kind), end in ends.items():
        of = line[policy]
        if not of.came and kind != "veh":
            axis.text(end - (0.17 if kind == "LOS" else 0.05), y, NONE, ha="center" if kind == "LOS" else "right", **style)
            continue
        if kind == "LOS":
            colour = COLOURS[LEVELS.index(of.level)]
            axis.add_patch(Rectangle((end - 0.3, y - 0.42), 0.26, 0.84, facecolor=colour, edgecolor="none"))
            axis.text(end - 0.17, y, of.level, ha="center", color="white" if of.level in "AF" else "black", **style)
            continue
        numbers = {"veh": of.vehicles, "delay [s]": of.delay_s, "change [s]": of.delay_s - before_s}
        text = f"{numbers[kind]:{FORMATS[kind]}}" if math.isfinite(numbers[kind]) else {"delay [s]": "none left"}.get(kind, NONE)
        axis.text(end - 0.05, y, text, ha="right", **style)
