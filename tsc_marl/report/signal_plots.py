"""Figures of single signals: change of the local reward on the map, and metrics of credit over training."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tsc_marl.console import shortened
from tsc_marl.report.network_data import CREDIT, REWARD, NetworkResults, SignalSeries
from tsc_marl.report.svg import PagePanel, new_panel
from tsc_marl.sim import road_network, scenario
from tsc_marl.viz import delay_map
from tsc_marl.viz.signal_maps import LONGEST

WORSE_TO_BETTER = ("#B35806", "#F1A340", "#F7F7F7", "#67A9CF", "#2166AC")
WIDTH_IN = 2.9
ROW_IN = 0.14
"""Height of a signal's row."""
NAMED = 5
"""Signals with the largest changes, in the text of a map."""


def change_maps(results: NetworkResults) -> dict[str, PagePanel]:
    """Return a map for each other group: a signal's colour is the change of its local reward against the reference.

    Groups whose trainings had other signals than the network of today are left out. Empty where there is no other group, or
    where local rewards were not logged.
    """
    rewards = {name: series.final(REWARD) for name, series in results.signals.items()}
    base = rewards.pop(results.reference)
    if not any(rewards.values()):
        return {}
    loaded = scenario.load(results.network)
    signals = {signal.name: (signal.x, signal.y) for signal in road_network.of(loaded).signals}
    rewards = {name: rewards[name] for name in results.groups if signals.keys() <= rewards.get(name, {}).keys()}
    if not rewards or not signals.keys() <= base.keys():
        return {}
    lines = [np.vstack([line, [np.nan, np.nan]]) for line in delay_map.shapes(loaded.net).values()]
    changes = {name: {signal: own[signal] - base[signal] for signal in signals} for name, own in rewards.items()}
    most = float(np.median([max(map(abs, of.values())) for of in changes.values()])) or 1.0  # one jam pales no other map
    return {name: _map(results, name, changes[name], base, signals, np.concatenate(lines), most) for name in rewards}


def _map(
    results: NetworkResults, name: str, changes: Mapping[str, float], base: Mapping[str, float],
    signals: Mapping[str, tuple[float, float]], roads: np.ndarray, most: float,
) -> PagePanel:  # fmt: skip
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    width, height = np.ptp(roads[np.isfinite(roads[:, 0])], axis=0)
    figure, axis = new_panel(WIDTH_IN, 0.75 + WIDTH_IN * float(np.clip(height / width, 0.35, 1.4)), name)
    scale = ScalarMappable(Normalize(-most, most), LinearSegmentedColormap.from_list("change", WORSE_TO_BETTER))
    axis.plot(*roads.T, color="#a0a0a0", linewidth=0.8)
    hints = {}
    for i, (signal, (x, y)) in enumerate(signals.items()):
        (colour,) = scale.to_rgba(np.array([changes[signal]]))
        mark = {"color": colour, "markeredgecolor": "#333333", "markeredgewidth": 0.7, "markersize": 8}
        axis.plot(x, y, "o", gid=f"signal-{i}", **mark)
        hints[f"signal-{i}"] = _hint(results, signal, name, changes[signal], base[signal])
    axis.set_aspect("equal")
    axis.set_axis_off()
    bar = figure.colorbar(scale, ax=axis, orientation="horizontal", aspect=30, pad=0.03)
    bar.set_label(f"change [{results.reward_unit} per episode]", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.ax.locator_params(nbins=5)
    better = sum(change > 0 for change in changes.values())
    largest = sorted(changes, key=lambda signal: -abs(changes[signal]))[:NAMED]
    numbers = ", ".join(f"{signal} {changes[signal]:+.0f}" for signal in largest)
    text = f"{name} against {results.reference}: local reward better at {better} of {len(changes)} signals; largest: {numbers}."
    return PagePanel(figure, text, hints)


def _hint(results: NetworkResults, signal: str, name: str, change: float, base: float) -> str:
    """Return the text of one signal."""
    share = f" ({change / abs(base):+.0%})" if base else ""
    values = f"{name} {base + change:.0f}, {results.reference} {base:.0f}, change {change:+.0f}{share}"
    return f"{signal}, reward [{results.reward_unit} per episode]: {values}"


def credit_panels(results: NetworkResults, names: Collection[str]) -> list[PagePanel]:
    """Return a panel for each metric of `CREDIT` and each of the groups: signals over training, darker is larger.

    Signals are sorted by the end of the first panel. Empty where no such metric was logged.
    """
    panels = [(metric, name) for metric in CREDIT for name in names if _largest(results.signals[name], metric) > 0]
    if not panels:
        return []
    metric, name = panels[0]
    final = results.signals[name].final(metric)
    order = sorted(final, key=lambda signal: -final[signal])
    scales = {
        metric: _scale([results.signals[name] for drawn, name in panels if drawn == metric], metric) for metric, _ in panels
    }
    return [_heat_map(results.signals[name], metric, name, order, scales[metric]) for metric, name in panels]


def _heat_map(series: SignalSeries, metric: str, name: str, order: Sequence[str], most: float) -> PagePanel:
    figure, axis = new_panel(WIDTH_IN, 0.8 + ROW_IN * len(order), f"{name}: {CREDIT[metric]}")
    axis.title.set_fontsize(8.5)
    undefined = np.full(len(series.episode), np.nan)
    values = np.array([series.metrics[metric].get(signal, undefined) for signal in order])
    image = axis.imshow(
        values, aspect="auto", interpolation="none", cmap="Blues", vmin=0, vmax=most,
        extent=(0, float(series.episode[-1]), len(order) - 0.5, -0.5),
    )  # fmt: skip
    axis.set_yticks(range(len(order)), [shortened(signal, LONGEST) for signal in order], fontsize=7)
    axis.set_xlabel("training episodes", fontsize=8)
    figure.colorbar(image, ax=axis, pad=0.02, aspect=25).ax.tick_params(labelsize=7)
    final = series.final(metric)
    top = ", ".join(f"{signal} {final[signal]:.3g}" for signal in sorted(final, key=lambda signal: -final[signal])[:NAMED])
    return PagePanel(figure, f"{CREDIT[metric]} of {name} by signal; largest at the end of training: {top}.")


def _largest(series: SignalSeries, metric: str) -> float:
    return max((float(np.abs(values).max()) for values in series.metrics.get(metric, {}).values()), default=0.0)


def _scale(groups: Sequence[SignalSeries], metric: str) -> float:
    """Return the upper end of a metric's colours: the median over groups of the 99th percentile.

    Neither a single outlier nor a single group makes the other panels pale.
    """
    ends = [np.percentile(np.concatenate(list(series.metrics[metric].values())), 99) for series in groups]
    return float(np.median(ends)) or 1.0
