"""Figures of single signals: where local rewards changed, on the map, and whose phases matter to whom."""

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
"""Algorithms whose credit is drawn, beside the reference and that which is asked about."""
ROW = 18
"""Pixels of a signal's row."""
LONGEST = 16
"""Characters of a signal's name beside its row."""


def change_map(findings: NetworkResults) -> go.Figure | None:
    """Return a map for each other group: signals coloured by how much better their local reward is than the reference's.

    None where there is no other group, or the local rewards were not logged.
    """
    rewards = {name: agents.last(REWARD) for name, agents in findings.agents.items()}
    base = rewards.pop(findings.reference)
    rewards = {name: rewards[name] for name in findings.groups if rewards.get(name)}
    if not rewards or not base:
        return None
    loaded = scenario.load(findings.network)
    signals = {signal.name: (signal.x, signal.y) for signal in road_network.read(loaded.net).signals}
    lines = [np.vstack([line, [np.nan, np.nan]]) for line in delay_map.shapes(loaded.net).values()]
    x, y = np.concatenate(lines).T
    rows, columns = -(-len(rewards) // COLUMNS), min(COLUMNS, len(rewards))
    titles = [f"{name} against {findings.reference}" for name in rewards]
    panel = MAP_WIDTH_PX / columns * np.ptp(y[np.isfinite(y)]) / np.ptp(x[np.isfinite(x)])
    height = 50 + rows * int(np.clip(panel, 120, 460)) + (rows - 1) * ROW_GAP_PX
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=ROW_GAP_PX / height)
    for i, (name, own) in enumerate(rewards.items()):
        row, column = i // COLUMNS + 1, i % COLUMNS + 1
        road = {"color": "#b4b4b4", "width": 1.5}
        figure.add_trace(go.Scatter(x=x, y=y, mode="lines", line=road, hoverinfo="skip"), row, column)
        told = [_told(findings, signal, name, own[signal], base[signal]) for signal in signals]
        change = [own[signal] - base[signal] for signal in signals]
        mark = {"color": change, "coloraxis": "coloraxis", "size": 15, "line": {"color": "#333333", "width": 1}}
        xs, ys = zip(*signals.values(), strict=True)
        figure.add_trace(
            go.Scatter(x=xs, y=ys, mode="markers", marker=mark, text=told, hovertemplate="%{text}<extra></extra>"), row, column
        )
    largest = [max(abs(own[signal] - base[signal]) for signal in signals) for own in rewards.values()]
    most = float(np.median(largest)) or 1.0  # one jam in one group must not make all others pale
    bar = {"title": {"text": f"change of local reward<br>[{findings.reward_unit} per episode]", "font": {"size": 12}}}
    bar |= {"thickness": 12, "tickformat": ",", "lenmode": "pixels", "len": min(height - 60, 300), "y": 1, "yanchor": "top"}
    colours = {"colorscale": list(WORSE_TO_BETTER), "cmin": -most, "cmax": most, "colorbar": bar}
    figure.update_layout(coloraxis=colours, showlegend=False, margin={"l": 10, "b": 10})
    figure.update_annotations(font_size=13)
    return _flat(framed(figure, height))


def _told(findings: NetworkResults, signal: str, name: str, own: float, base: float) -> str:
    """Return the text of one signal."""
    share = f" ({(own - base) / abs(base):+.0%})" if base else ""
    figures = f"{name} {own:.0f}<br>{findings.reference} {base:.0f}<br>change {own - base:+.0f}{share}"
    return f"<b>{signal}</b>, reward [{findings.reward_unit} per episode]<br>{figures}"


def _flat(figure: go.Figure) -> go.Figure:
    """Make every panel a map: metres are as long to the right as upwards, and there are no axes."""
    for i, axis in enumerate(figure.select_yaxes(), 1):
        axis.update(scaleanchor=f"x{i if i > 1 else ''}", scaleratio=1)
    hidden = {"visible": False, "showgrid": False}
    figure.update_xaxes(**hidden)
    figure.update_yaxes(**hidden)
    return figure


def credit_panels(findings: NetworkResults) -> go.Figure | None:
    """Return a panel for each figure of `CREDIT` that a group logged: signals over training, darker is more.

    Signals stand in the order in which they matter to others at the end. Of many groups the best are drawn, the reference, and
    those that are asked about. None where nothing was logged.
    """
    groups = findings.groups
    wanted = {findings.reference, *list(groups)[:BEST], *findings.comparison.of(FOCUS_ALGORITHM)}
    panels = [(kind, name) for kind in CREDIT for name in groups if name in wanted and _largest(findings.agents[name], kind) > 0]
    if not panels:
        return None
    order = _order(findings, *panels[0])
    most = {kind: _scale([findings.agents[name] for drawn, name in panels if drawn == kind], kind) for kind, _ in panels}
    rows, columns = -(-len(panels) // COLUMNS), min(COLUMNS, len(panels))
    height = 105 + rows * (90 + ROW * len(order))
    figure = make_subplots(
        rows, columns, shared_yaxes=True, horizontal_spacing=0.075, vertical_spacing=min(0.25, 75 / height),
        subplot_titles=[f"{name}: {CREDIT[kind]}" for kind, name in panels],
    )  # fmt: skip
    for i, (kind, name) in enumerate(panels):
        row, column = i // COLUMNS + 1, i % COLUMNS + 1
        figure.add_trace(_heatmap(findings.agents[name], kind, name, order, most[kind]), row, column)
        axes: Any = figure.layout[f"xaxis{i + 1}"], figure.layout[f"yaxis{i + 1}"]
        (_, right), (bottom, top) = (axis.domain for axis in axes)
        added: Any = figure.data[-1]
        added.colorbar.update(x=right + 0.004, y=(bottom + top) / 2, len=top - bottom)
        if i + columns >= len(panels):
            figure.update_xaxes(title="training episodes", row=row, col=column)
    figure.update_annotations(font_size=12)
    told = [name if len(name) <= LONGEST else f"{name[:4]}…{name[5 - LONGEST :]}" for name in order]
    ticks = {"tickvals": order, "ticktext": told, "tickfont": {"size": 10}}
    figure.update_yaxes(ticks, type="category", autorange="reversed")  # else names of digits alone are taken for numbers
    figure.update_layout(margin={"t": 65})  # plotly's buttons above the titles
    return framed(figure, height)


def _heatmap(agents: SignalSeries, kind: str, name: str, order: Sequence[str], most: float) -> go.Heatmap:
    bar = {"xanchor": "left", "xpad": 0, "ypad": 0, "thickness": 8, "nticks": 5, "tickfont": {"size": 10}}
    return go.Heatmap(
        x=agents.episode, y=order, z=[agents.figures[kind][signal] for signal in order], zmin=0, zmax=most,
        colorscale="Blues", colorbar=bar,
        hovertemplate=f"{name}, %{{y}} after %{{x:.0f}} episodes<br>{CREDIT[kind]}: %{{z:.3~g}}<extra></extra>",
    )  # fmt: skip


def _largest(agents: SignalSeries, kind: str) -> float:
    return max((float(np.abs(series).max()) for series in agents.figures.get(kind, {}).values()), default=0.0)


def _order(findings: NetworkResults, kind: str, name: str) -> list[str]:
    last = findings.agents[name].last(kind)
    return sorted(last, key=lambda signal: -last[signal])


def _scale(drawn: Sequence[SignalSeries], kind: str) -> float:
    """Return where the scale of a figure ends: at the 99th percentile of the group in the middle.

    Neither single outliers nor one group must make the rest pale.
    """
    ends = [np.percentile(np.concatenate(list(agents.figures[kind].values())), 99) for agents in drawn]
    return float(np.median(ends)) or 1.0
