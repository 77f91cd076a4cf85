"""Interactive plots of the comparison for the page: learning curves and final delays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tsc_marl.analysis import summaries
from tsc_marl.analysis.compare import Training
from tsc_marl.analysis.summaries import Summary
from tsc_marl.evaluation.tables import span
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


def learning_curves(results: NetworkResults, styles: Mapping[str, SeriesStyle]) -> go.Figure:
    """Return the training delay over episodes and over minutes: median of the trainings, and a band from least to largest."""
    axes = {"episode": f"training episodes (of {results.steps_per_episode:.0f} decisions)", "minutes": "minutes of training"}
    plot = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.03)
    opacity = shade(len(results.groups))
    for column, (axis, title) in enumerate(axes.items(), 1):
        curves = {name: band(trainings, axis) for name, trainings in results.groups.items()}
        for name, curve in curves.items():
            _curve(plot, column, name, styles[name], opacity, curve)
        longest = max(x[-1] for x, *_ in curves.values())
        for name, delay in results.comparison.training_thresholds.items():
            _baseline(plot, column, name, delay, longest)
        plot.update_xaxes(title=title, rangemode="tozero", row=1, col=column)
    plot.update_yaxes(LOG)
    plot.update_yaxes(title=DELAY, row=1, col=1)
    return framed(plot, 400)


def _curve(plot: go.Figure, column: int, name: str, style: SeriesStyle, opacity: float, curve: tuple[np.ndarray, ...]) -> None:
    x, low, middle, high = curve
    group = {"legendgroup": name, "name": name}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, **group}
    plot.add_trace(go.Scatter(x=x, y=low, **edge), 1, column)
    plot.add_trace(go.Scatter(x=x, y=high, fill="tonexty", fillcolor=style.faint(opacity), **edge), 1, column)
    line = {"color": style.colour, "dash": style.dash, "width": 2}
    hover = f"{name}: %{{y:.1f}} s after %{{x:.4~g}} {('episodes', 'min')[column - 1]}<extra></extra>"
    main = go.Scatter(x=x, y=middle, mode="lines", line=line, showlegend=column == 1, hovertemplate=hover, **group)
    plot.add_trace(main, 1, column)


def _baseline(plot: go.Figure, column: int, name: str, delay: float, longest: float) -> None:
    line = {"color": GREY, "dash": "dash", "width": 1}
    hover = f"{name}: {delay:.1f} s<extra></extra>"
    ends = {"x": [0, longest], "y": [delay, delay], "mode": "lines", "line": line, "showlegend": False}
    plot.add_trace(go.Scatter(**ends, hovertemplate=hover), 1, column)
    if column == 2:
        label = {"text": f"{name} {delay:.1f}", "showarrow": False, "font": {"size": 11, "color": GREY}}
        label |= {"bgcolor": "white", "opacity": 0.85}
        where = {"x": 1, "xref": "x2 domain", "xanchor": "right", "y": np.log10(delay), "yref": "y", "yanchor": "bottom"}
        plot.add_annotation(**label, **where)


def final_delays(results: NetworkResults, styles: Mapping[str, SeriesStyle]) -> go.Figure:
    """Return the final delay of each algorithm with its interval and trainings, beside the classical controllers."""
    plot, labels = go.Figure(), dict[str, tuple[float, str]]()
    for name, summary in results.summaries.items():
        _ends(plot, name, styles[name], results.groups[name], summary)
        labels[name] = (summary.delay, f"<b>{summary.delay:.1f}</b>{_interval(summary)}")
    for name, delay in results.comparison.baseline_delays.items():
        _mark(plot, name, [delay], {"color": GREY, "symbol": "diamond", "size": 9})
        labels[name] = (delay, f"<b>{delay:.1f}</b>")
    order = sorted(labels, key=lambda name: -labels[name][0])
    for name, (_, text) in labels.items():
        plot.add_annotation(x=1.01, xref="x domain", xanchor="left", y=name, text=text, showarrow=False, font={"size": 12})
    wide = labels[order[0]][0] > 4 * labels[order[-1]][0]
    plot.update_xaxes(LOG if wide else {}, title=DELAY)
    plot.update_yaxes(categoryorder="array", categoryarray=order, showgrid=True)
    plot.update_layout(showlegend=False, margin={"r": 150})
    return framed(plot, 100 + 30 * len(labels))


def _ends(plot: go.Figure, name: str, style: SeriesStyle, trainings: Sequence[Training], summary: Summary) -> None:
    ring = {"color": style.faint(0), "size": 7, "line": {"color": style.colour, "width": 1}}
    seeds = [f", training seed {training.seed}" for training in trainings]
    _mark(plot, name, summaries.delays(trainings).mean(axis=1).tolist(), ring, text=seeds)
    low, high = summary.interval
    sides = {"array": [high - summary.delay], "arrayminus": [summary.delay - low]}
    bars = {"type": "data", "thickness": 2, "width": 5, **sides} if np.isfinite(low) else None
    _mark(plot, name, [summary.delay], {"color": style.colour, "size": 10}, error_x=bars)


def _interval(summary: Summary) -> str:
    return "" if np.isnan(summary.interval[0]) else f" ({span(summary.interval)})"


def _mark(plot: go.Figure, name: str, x: Sequence[float], marker: dict[str, Any], **more: Any) -> None:
    hover = f"{name}%{{text}}: %{{x:.1f}} s<extra></extra>"
    more = {"text": [""] * len(x)} | more
    plot.add_trace(go.Scatter(x=x, y=[name] * len(x), mode="markers", marker=marker, hovertemplate=hover, **more))


def framed(plot: go.Figure, height: int) -> go.Figure:
    """Give a plot its size, its margins and the style of the page."""
    plot.update_xaxes(AXIS, automargin=True)
    plot.update_yaxes(AXIS, automargin=True)
    plot.update_layout(
        width=WIDTH, height=height, template="none", font={"family": FONT, "size": 13, "color": "#222222"}, hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )  # fmt: skip
    margin = {"l": 70, "r": 20, "t": 40, "b": 55}
    for side, size in margin.items():
        if plot.layout.margin[side] is None:
            plot.layout.margin[side] = size
    return plot
