"""Figures of the comparison for the page: learning curves and final delays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tsc_marl.analysis import compare
from tsc_marl.analysis.compare import Summary, Training
from tsc_marl.evaluation import tables
from tsc_marl.report.network_data import NetworkResults, band
from tsc_marl.report.style import FONT, GREY, SeriesStyle, shade

WIDTH = 960
"""Pixels; fits a laptop's screen and a landscape page."""
DELAY = "delay [s per scheduled vehicle]"
AXIS = {
    "showline": True,
    "linecolor": GREY,
    "ticks": "outside",
    "gridcolor": "#e6e6e6",
    "zeroline": False,
    "title.font.size": 13,
    "title.standoff": 8,
}
TICKS = [factor * 10.0**power for power in range(-2, 6) for factor in (1, 2, 3, 5)]
LOG = {"type": "log", "tickvals": TICKS, "ticktext": [f"{tick:g}" for tick in TICKS]}
"""A logarithmic axis with labels at 1, 2, 3 and 5 times each power of ten."""


def learning_curves(findings: NetworkResults, looks: Mapping[str, SeriesStyle]) -> go.Figure:
    """Return the training delay over episodes and over minutes: median of the trainings, and a band from least to largest."""
    axes = {"episode": f"training episodes (of {findings.steps_per_episode:.0f} decisions)", "minutes": "minutes of training"}
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03)
    opacity = shade(len(findings.groups))
    for column, (axis, title) in enumerate(axes.items(), 1):
        curves = {name: band(trainings, axis) for name, trainings in findings.groups.items()}
        for name, curve in curves.items():
            _curve(figure, column, name, looks[name], opacity, curve)
        longest = max(x[-1] for x, *_ in curves.values())
        for name, level in findings.comparison.training_thresholds.items():
            _level(figure, column, name, level, longest)
        figure.update_xaxes(title=title, rangemode="tozero", row=1, col=column)
    figure.update_yaxes(LOG)
    figure.update_yaxes(title=DELAY, row=1, col=1)
    return framed(figure, 400)


def _curve(figure: go.Figure, column: int, name: str, look: SeriesStyle, opacity: float, curve: tuple[np.ndarray, ...]) -> None:
    x, low, middle, high = curve
    group = {"legendgroup": name, "name": name}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **group}
    figure.add_trace(go.Scatter(x=x, y=low, **edge), 1, column)
    figure.add_trace(go.Scatter(x=x, y=high, fill="tonexty", fillcolor=look.faint(opacity), **edge), 1, column)
    line = {"color": look.colour, "dash": look.dash, "width": 2}
    told = f"{name}: %{{y:.1f}} s after %{{x:.4~g}} {('episodes', 'min')[column - 1]}<extra></extra>"
    main = go.Scatter(x=x, y=middle, mode="lines", line=line, showlegend=column == 1, hovertemplate=told, **group)
    figure.add_trace(main, 1, column)


def _level(figure: go.Figure, column: int, name: str, level: float, longest: float) -> None:
    line = {"color": GREY, "dash": "dash", "width": 1}
    told = f"{name}: {level:.1f} s<extra></extra>"
    ends = {"x": [0, longest], "y": [level, level], "mode": "lines", "line": line, "showlegend": False}
    figure.add_trace(go.Scatter(**ends, hovertemplate=told), 1, column)
    if column == 2:
        label = {"text": f"{name} {level:.1f}", "showarrow": False, "font": {"size": 11, "color": GREY}}
        label |= {"bgcolor": "white", "opacity": 0.85}
        where = {"x": 1, "xref": "x2 domain", "xanchor": "right", "y": np.log10(level), "yref": "y", "yanchor": "bottom"}
        figure.add_annotation(**label, **where)


def final_delays(findings: NetworkResults, looks: Mapping[str, SeriesStyle]) -> go.Figure:
    """Return the final delay of each algorithm with its interval and trainings, beside the classical controllers."""
    figure, told = go.Figure(), {}
    for name, summary in findings.summaries.items():
        _ends(figure, name, looks[name], findings.groups[name], summary)
        told[name] = (summary.delay, f"<b>{summary.delay:.1f}</b>{_interval(summary)}")
    for name, level in findings.comparison.baseline_delays.items():
        _mark(figure, name, [level], {"color": GREY, "symbol": "diamond", "size": 9})
        told[name] = (level, f"<b>{level:.1f}</b>")
    order = sorted(told, key=lambda name: -told[name][0])
    for name, (_, text) in told.items():
        figure.add_annotation(x=1.01, xref="x domain", xanchor="left", y=name, text=text, showarrow=False, font={"size": 12})
    wide = told[order[0]][0] > 4 * told[order[-1]][0]
    figure.update_xaxes(LOG if wide else {}, title=DELAY)
    figure.update_yaxes(categoryorder="array", categoryarray=order, showgrid=True)
    figure.update_layout(showlegend=False, margin={"r": 150})
    return framed(figure, 100 + 30 * len(told))


def _ends(figure: go.Figure, name: str, look: SeriesStyle, trainings: Sequence[Training], summary: Summary) -> None:
    ring = {"color": look.faint(0), "size": 7, "line": {"color": look.colour, "width": 1}}
    seeds = [f", training seed {training.seed}" for training in trainings]
    _mark(figure, name, compare.delays(trainings).mean(axis=1).tolist(), ring, text=seeds)
    low, high = summary.interval
    sides = {"array": [high - summary.delay], "arrayminus": [summary.delay - low]}
    bars = {"type": "data", "thickness": 2, "width": 5, **sides} if low == low else None
    _mark(figure, name, [summary.delay], {"color": look.colour, "size": 10}, error_x=bars)


def _interval(summary: Summary) -> str:
    low, high = summary.interval
    return f" ({tables.span(low, high)})" if low == low else ""


def _mark(figure: go.Figure, name: str, x: Sequence[float], marker: dict[str, Any], **more: Any) -> None:
    hover = f"{name}%{{text}}: %{{x:.1f}} s<extra></extra>"
    more = {"text": [""] * len(x)} | more
    figure.add_trace(go.Scatter(x=x, y=[name] * len(x), mode="markers", marker=marker, hovertemplate=hover, **more))


def framed(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure its size and look."""
    figure.update_xaxes(AXIS, automargin=True)
    figure.update_yaxes(AXIS, automargin=True)
    figure.update_layout(
        width=WIDTH, height=height, template="none", font={"family": FONT, "size": 13, "color": "#222222"}, hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )  # fmt: skip
    margin = {"l": 70, "r": 20, "t": 40, "b": 55}
    for side, size in margin.items():
        if figure.layout.margin[side] is None:
            figure.layout.margin[side] = size
    return figure
