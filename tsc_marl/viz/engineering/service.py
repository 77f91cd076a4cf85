"""Level of service of approaches and signals under several policies, as a table."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.sim.service import ALL, BEHIND, LEVELS, LIMITS_S, NONE, Service, together
from tsc_marl.viz.engineering.sheet import new_sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KEY = f"LOS: {', '.join(f'{letter} to {limit:.0f} s' for letter, limit in zip(LEVELS, LIMITS_S, strict=False))}, F above"
COLOURS = ("#4575b4", "#74add1", "#abd9e9", "#fdae61", "#f46d43", "#a50026")
MOST_ROWS = 44
"""Rows of the table; approaches without room are in the file of numbers only."""
FORMATS = {"veh": "d", "delay [s]": ".1f", "change [s]": "+.1f"}
MEASURED = ("veh", "delay [s]", "LOS")
COLUMNS_IN = {"": 1.9, "veh": 0.45, "delay [s]": 0.6, "LOS": 0.4, "change [s]": 0.75}


def by_signal(rows: Sequence[Service]) -> list[Service]:
    """Return each signal with its approaches behind it, of the rows of an episode."""
    approaches = [row for row in rows if row.turn == ALL and row.approach != BEHIND]
    groups = ((signal, list(own)) for signal, own in itertools.groupby(approaches, key=lambda row: row.signal))
    return [row for signal, own in groups for row in (together(signal, own), *own)]


def draw(rows: Mapping[str, Sequence[Service]], title: str) -> "Figure":
    """Return the table: signals, and their approaches where there is room; the policy before, then those after it.

    Args:
        rows: by policy, from `by_signal`; all in one order. The changes count from the first policy.
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
        name = line[baseline].signal if of_signal else f"   {line[baseline].approach}, {line[baseline].road}"
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
