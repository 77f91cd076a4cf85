"""Interactive plots of single signals: change of the local reward on the map, and metrics of credit over training."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tsc_marl.report.curves import WIDTH, framed
from tsc_marl.report.network_data import CREDIT, REWARD, NetworkResults, SignalSeries
from tsc_marl.report.style import WORSE_TO_BETTER
from tsc_marl.report.verdict import FOCUS_ALGORITHM
from tsc_marl.sim import road_network, scenario
from tsc_marl.viz import delay_map

COLUMNS = 3
MAP_WIDTH_PX = WIDTH - 160
"""Pixels beside the colour scale."""
ROW_GAP_PX = 40
"""Pixels between the rows of maps, for their titles."""
BEST = 5
"""Algorithms whose credit is drawn, beside the reference and `FOCUS_ALGORITHM`."""
ROW = 18
"""Pixels of a signal's row."""
LONGEST = 16
"""Characters of a signal's name beside its row."""


def change_map(results: NetworkResults) -> go.Figure | None:
    """Return a map for each other group: a signal's colour is the change of its local reward against the reference.

    Groups whose trainings had other signals than the network of today are left out. None where there is no other group, or
    where local rewards were not logged.
    """
    rewards = {name: series.final(REWARD) for name, series in results.signals.items()}
    base = rewards.pop(results.reference)
    if not any(rewards.values()):
        return None
    loaded = scenario.load(results.network)
    signals = {signal.name: (signal.x, signal.y) for signal in road_network.of(loaded).signals}
    rewards = {name: rewards[name] for name in results.groups if signals.keys() <= rewards.get(name, {}).keys()}
    if not rewards or not signals.keys() <= base.keys():
        return None
    lines = [np.vstack([line, [np.nan, np.nan]]) for line in delay_map.shapes(loaded.net).values()]
    x, y = np.concatenate(lines).T
    rows, columns = -(-len(rewards) // COLUMNS), min(COLUMNS, len(rewards))
    titles = [f"{name} against {results.reference}" for name in rewards]
    panel = MAP_WIDTH_PX / columns * np.ptp(y[np.isfinite(y)]) / np.ptp(x[np.isfinite(x)])
    height = 50 + rows * int(np.clip(panel, 120, 460)) + (rows - 1) * ROW_GAP_PX
    plot = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=ROW_GAP_PX / height)
    for i, (name, own) in enumerate(rewards.items()):
        row, column = i // COLUMNS + 1, i % COLUMNS + 1
        road = {"color": "#b4b4b4", "width": 1.5}
        plot.add_trace(go.Scatter(x=x, y=y, mode="lines", line=road, hoverinfo="skip"), row, column)
        texts = [_hover_text(results, signal, name, own[signal], base[signal]) for signal in signals]
        change = [own[signal] - base[signal] for signal in signals]
        mark = {"color": change, "coloraxis": "coloraxis", "size": 15, "line": {"color": "#333333", "width": 1}}
        xs, ys = zip(*signals.values(), strict=True)
        plot.add_trace(
            go.Scatter(x=xs, y=ys, mode="markers", marker=mark, text=texts, hovertemplate="%{text}<extra></extra>"), row, column
        )
    largest = [max(abs(own[signal] - base[signal]) for signal in signals) for own in rewards.values()]
    most = float(np.median(largest)) or 1.0  # one jam in one group does not make the other maps pale
    bar = {"title": {"text": f"change of local reward<br>[{results.reward_unit} per episode]", "font": {"size": 12}}}
    bar |= {"thickness": 12, "tickformat": ",", "lenmode": "pixels", "len": min(height - 60, 300), "y": 1, "yanchor": "top"}
    colours = {"colorscale": list(WORSE_TO_BETTER), "cmin": -most, "cmax": most, "colorbar": bar}
    plot.update_layout(coloraxis=colours, showlegend=False, margin={"l": 10, "b": 10})
    plot.update_annotations(font_size=13)
    return _flat(framed(plot, height))


def _hover_text(results: NetworkResults, signal: str, name: str, own: float, base: float) -> str:
    """Return the text of one signal."""
    share = f" ({(own - base) / abs(base):+.0%})" if base else ""
    change = f"{name} {own:.0f}<br>{results.reference} {base:.0f}<br>change {own - base:+.0f}{share}"
    return f"<b>{html.escape(signal)}</b>, reward [{results.reward_unit} per episode]<br>{change}"


def _flat(plot: go.Figure) -> go.Figure:
    """Make every panel a map: metres are as long to the right as upwards, and there are no axes."""
    for i, axis in enumerate(plot.select_yaxes(), 1):
        axis.update(scaleanchor=f"x{i if i > 1 else ''}", scaleratio=1)
    hidden = {"visible": False, "showgrid": False}
    plot.update_xaxes(**hidden)
    plot.update_yaxes(**hidden)
    return plot


def credit_panels(results: NetworkResults) -> go.Figure | None:
    """Return a panel for each metric of `CREDIT` and group: signals over training, darker is larger.

    Signals are sorted by the end of the first panel. Groups: the best, the reference, and those of `FOCUS_ALGORITHM`. None
    where no such metric was logged.
    """
    groups = results.groups
    wanted = {results.reference, *list(groups)[:BEST], *results.comparison.groups_of(FOCUS_ALGORITHM)}
    panels = [
        (metric, name) for metric in CREDIT for name in groups if name in wanted and _largest(results.signals[name], metric) > 0
    ]
    if not panels:
        return None
    order = _order(results, *panels[0])
    scales = {
        metric: _scale([results.signals[name] for drawn, name in panels if drawn == metric], metric) for metric, _ in panels
    }
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    height = 105 + rows * (90 + ROW * len(order))
    plot = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.075, vertical_spacing=min(0.25, 75 / height),
        subplot_titles=[f"{name}: {CREDIT[metric]}" for metric, name in panels],
    )  # fmt: skip
    for i, (metric, name) in enumerate(panels):
        row, column = i // COLUMNS + 1, i % COLUMNS + 1
        plot.add_trace(_heatmap(results.signals[name], metric, name, order, scales[metric]), row, column)
        axes: Any = plot.layout[f"xaxis{i + 1}"], plot.layout[f"yaxis{i + 1}"]
        (_, right), (bottom, top) = (axis.domain for axis in axes)
        added: Any = plot.data[-1]
        added.colorbar.update(x=right + 0.004, y=(bottom + top) / 2, len=top - bottom)
        if i + columns >= len(panels):
            plot.update_xaxes(title="training episodes", row=row, col=column)
    plot.update_annotations(font_size=12)
    labels = [name if len(name) <= LONGEST else f"{name[:4]}…{name[5 - LONGEST :]}" for name in order]
    ticks = {"tickvals": order, "ticktext": [html.escape(label) for label in labels], "tickfont": {"size": 10}}
    plot.update_yaxes(ticks, type="category", autorange="reversed")  # else names of digits alone are taken for numbers
    plot.update_layout(margin={"t": 65})  # plotly's buttons above the titles
    return framed(plot, height)


def _heatmap(series: SignalSeries, metric: str, name: str, order: Sequence[str], most: float) -> go.Heatmap:
    undefined = np.full(len(series.episode), np.nan)
    bar = {"xanchor": "left", "xpad": 0, "ypad": 0, "thickness": 8, "nticks": 5, "tickfont": {"size": 10}}
    return go.Heatmap(
        x=series.episode, y=order, z=[series.metrics[metric].get(signal, undefined) for signal in order], zmin=0, zmax=most,
        colorscale="Blues", colorbar=bar,
        hovertemplate=f"{name}, %{{y}} after %{{x:.0f}} episodes<br>{CREDIT[metric]}: %{{z:.3~g}}<extra></extra>",
    )  # fmt: skip


def _largest(series: SignalSeries, metric: str) -> float:
    return max((float(np.abs(values).max()) for values in series.metrics.get(metric, {}).values()), default=0.0)


def _order(results: NetworkResults, metric: str, name: str) -> list[str]:
    """Return the signals, largest final value first."""
    final = results.signals[name].final(metric)
    return sorted(final, key=lambda signal: -final[signal])


def _scale(groups: Sequence[SignalSeries], metric: str) -> float:
    """Return the upper end of a metric's colours: the median over groups of the 99th percentile.

    Neither a single outlier nor a single group makes the other panels pale.
    """
    ends = [np.percentile(np.concatenate(list(series.metrics[metric].values())), 99) for series in groups]
    return float(np.median(ends)) or 1.0
