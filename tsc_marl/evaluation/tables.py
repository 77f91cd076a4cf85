"""Tables for the terminal, for Markdown and for the report page, each from one list of columns."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.evaluate import Results
from tsc_marl.evaluation.statistics import Interval
from tsc_marl.sim import metrics, road_network
from tsc_marl.sim.scenario import Scenario, scheduled
from tsc_marl.tracking import colours

Row = Mapping[str, Any]
"""The values of one row by the keys of the columns."""


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    key: str
    """Key of its values in a row."""
    title: str
    """Title of the column, with the unit."""
    format: Callable[[Any], str] = str
    """Function from a value to its text."""
    priority: int = 0
    """0: every terminal shows the column. Of the others, a narrow terminal leaves out the largest first."""


def cells(columns: Sequence[Column], row: Row) -> list[str]:
    """Return the texts of a row, `-` for a value that the row does not have."""
    return [column.format(row[column.key]) if column.key in row else "-" for column in columns]


def terminal_table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Return a table for the terminal; the first column is aligned left, its algorithms have their colours."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column.title, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        name, *rest = cells(columns, row)
        table.add_row(Text(name, colours.of_first().get((name.split() or [""])[0], "")), *rest)
    return table


def markdown_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Return a table in Markdown."""
    lines = [[" ".join(column.title.split()) for column in columns], *(cells(columns, row) for row in rows)]
    header, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([header, "|---" * len(columns) + "|", *body])


def left_out_first(columns: Sequence[Column]) -> list[str]:
    """Return the titles of the columns that a narrow terminal can leave out, the first of them first."""
    return [column.title for column in sorted(columns, key=lambda column: -column.priority) if column.priority]


def number(form: str) -> Callable[[float], str]:
    """Return the format of a number; an undefined one (nan) is `-`."""
    return lambda value: "-" if np.isnan(value) else f"{value:{form}}"


def span(interval: Interval, form: str = ".1f") -> str:
    """Return an interval as text, `-` where there is none."""
    low, high = interval
    return "-" if np.isnan(low) else f"{low:{form}} .. {high:{form}}"


def difference(estimate: tuple[float, float, float]) -> str:
    """Return a difference with its interval as text, `-` where there is none."""
    value, low, high = estimate
    if np.isnan(value):
        return "-"
    return f"{value:+.1f}" if np.isnan(low) else f"{value:+.1f} ({low:+.1f} .. {high:+.1f})"


def median(form: str) -> Callable[[Sequence[float]], str]:
    """Return the format of a median over trainings of the time to a threshold; infinity: the threshold was not reached.

    The text is the median, and how many trainings reached the threshold where not all did. Where fewer than half did, the
    text is this count alone.
    """

    def text(values: Sequence[float]) -> str:
        if not values:
            return "-"
        reached, middle = sum(np.isfinite(values)), float(np.median(values))
        count = f"{reached} of {len(values)}"
        if not np.isfinite(middle):
            return count if reached else "never"
        return f"{middle:{form}}" if reached == len(values) else f"{middle:{form}} ({count})"

    return text


COLUMNS = (
    Column("controller", "controller"),
    Column("delay", "delay [s]", number(".1f")),
    Column("interval", "95 % [s]", span),
    Column("median", "median\n[s]", number(".1f"), 3),
    Column("difference", "to baseline [s]", difference, 1),
    Column("person_delay", "persons\n[s]", number(".1f")),
    Column("walk_delay", "walks\n[s]", number(".1f")),
    Column("unfinished_walks", "unfinished\nwalks", number(".1f")),
    Column("transit_delay", "transit\n[s]", number(".1f")),
    Column("emergency_delay", "emergency\n[s]", number(".1f")),
    Column("delay_p95", "p95 [s]", number(".0f"), 5),
    Column("worst_approach", "worst\napproach [s]", number(".0f"), 8),
    Column("stops", "stops\n[1/veh]", number(".2f"), 6),
    Column("queue", "queue\n[veh/signal]", number(".2f"), 7),
    Column("arrived", "arrived\n[veh]", lambda counts: "{:.0f} of {:.0f}".format(*counts), 2),
    Column("never_inserted", "never\ninserted [veh]", number(".1f")),
    Column("gridlock", "gridlock", number(".0%")),
    Column("minutes", "training\n[min]", number(".1f"), 4),
)
"""Columns of an evaluation, with a row per controller: means over episodes, the median of the delay, and p95 over vehicles."""


def result_columns(baseline: str = "", named: Sequence[str] = ()) -> list[Column]:
    """Return the columns of an evaluation.

    Args:
        baseline: the controller that the difference is to.
        named: metrics that every terminal shows, by name or import path.
    """
    names = {metrics.label(name): name for name in named}
    columns = [replace(column, priority=0) if column.key in names else column for column in COLUMNS]
    columns += [_metric_column(name) for key, name in names.items() if key not in {column.key for column in COLUMNS}]
    if not baseline:
        return columns
    return [replace(column, title=f"to\n{baseline} [s]") if column.key == "difference" else column for column in columns]


def _metric_column(name: str) -> Column:
    """Return the column of a metric that has none in `COLUMNS`; the title of an import path has two lines."""
    unit = metrics.find(name).unit
    title = name.replace(":", ":\n")
    return Column(metrics.label(name), title if unit == "-" else f"{title} [{unit}]", significant)


def significant(value: float) -> str:
    """Return a number of any size: two decimals, below 1 three digits; an undefined one (nan) is `-`."""
    return number(".2f" if abs(value) >= 1 else ".3g")(value)


def result_rows(results: Results, training: Mapping[str, tuple[int, float]], baseline: str = "") -> list[Row]:
    """Return the rows of an evaluation, best delay first; see `results_table`."""
    rows: list[Row] = []
    for name in sorted(results, key=lambda key: statistics.mean(results[key], "delay")):
        episodes = results[name]
        measured = [key for key in episodes[0].values if all(key in episode.values for episode in episodes)]
        row: dict[str, Any] = {key: statistics.mean(episodes, key) for key in measured}
        delays = [episode["delay"] for episode in episodes]
        row |= {"controller": name, "interval": statistics.interval(delays), "median": float(np.median(delays))}
        if "arrived" in row:
            row["arrived"] = row["arrived"], row.get("scheduled", float("nan"))
        if baseline in results and name != baseline:
            row["difference"] = statistics.paired(episodes, results[baseline])
        if name in training:
            row["minutes"] = training[name][1]
        rows.append(row)
    return rows


def _with_values(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Return the columns that some row has a value for."""
    return [column for column in columns if any(column.key in row for row in rows)]


def results_table(
    title: str, results: Results, training: Mapping[str, tuple[int, float]], baseline: str = "", named: Sequence[str] = ()
) -> Table:
    """Return the table of an evaluation: a row per controller, best delay first.

    Args:
        title: above the table.
        results: per controller the metrics of each evaluation episode.
        training: per trained policy its episodes and minutes of training.
        baseline: the controller that the others are compared with on the same seeds; no comparison where it is not in the
            results.
        named: metrics with a column of their own, by name or import path.
    """
    rows = result_rows(results, training, baseline)
    return terminal_table(title, _with_values(result_columns(baseline, named), rows), rows)


def markdown(results: Results, named: Sequence[str] = ()) -> str:
    """Return the table of an evaluation in Markdown, with columns of the named metrics too."""
    rows = result_rows(results, {})
    return markdown_table(_with_values(result_columns(named=named), rows), rows)


def stress_table(title: str, results: Mapping[str, Results], undisturbed: str) -> Table:
    """Return the table of disturbances, a row each: mean delay of each policy, and its ratio to the undisturbed one.

    Args:
        title: above the table.
        results: per disturbance and policy the metrics of each episode.
        undisturbed: the key of the results without a disturbance.
    """
    usual = {name: statistics.mean(episodes, "delay") for name, episodes in results[undisturbed].items()}
    rows: list[Row] = []
    for key, of_policies in results.items():
        delays = {name: statistics.mean(episodes, "delay") for name, episodes in of_policies.items()}
        rows.append({"disturbance": key} | {name: (delay, delay / usual[name]) for name, delay in delays.items()})
    policies = [
        Column(name, name, lambda pair: "{:.1f} ({:.2f})".format(*pair)) for name in sorted(usual, key=lambda n: usual[n])
    ]
    return terminal_table(title, [Column("disturbance", "disturbance"), *policies], rows)


def delays_by_network(results: Mapping[str, Results]) -> tuple[list[Column], list[Row]]:
    """Return columns and rows of a table with a row per network, then their mean: the mean delay of each policy."""
    rows: list[dict[str, Any]] = [
        {"network": network} | {name: statistics.mean(episodes, "delay") for name, episodes in of_policies.items()}
        for network, of_policies in results.items()
    ]
    everywhere = [name for name in rows[0] if all(name in row for row in rows) and name != "network"]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in everywhere}
    names = sorted(dict.fromkeys(name for row in rows for name in row if name != "network"), key=lambda n: mean.get(n, np.inf))
    columns = [Column("network", "network"), *(Column(name, f"{name} [s]", number(".1f")) for name in names)]
    return columns, [*rows, {"network": "mean", **mean}]


NETWORK_COLUMNS = (
    Column("network", "network"),
    Column("signals", "signals"),
    Column("phases", "phases"),
    Column("lanes", "lanes"),
    Column("vehicles", "vehicles"),
    Column("window", "window [s]", priority=1),
    Column("licence", "licence", priority=2),
    Column("source", "source", priority=3),
)
NETWORK_MINOR = left_out_first(NETWORK_COLUMNS)


def network_row(scenario: Scenario) -> Row:
    """Return a road network's row.

    Raises:
        UserError: when its files cannot be used.
    """
    net = road_network.of(scenario)
    counts = Counter(len(signal.phases) for signal in net.signals)
    fixed = f" (+{len(net.fixed)} fixed)" if net.fixed else ""
    later = f", counts from {scenario.counted_from_s}" if scenario.warmup_s else ""
    return {
        "network": scenario.name,
        "signals": f"{len(net.signals)}{fixed}",
        "phases": ", ".join(f"{signals}x{phases}" for phases, signals in sorted(counts.items())),
        "lanes": sum(len(signal.lanes) for signal in net.signals),
        "vehicles": scheduled(scenario),
        "window": f"{scenario.begin_s} .. {scenario.end_s}{later}",
        "licence": scenario.licence,
        "source": scenario.source,
    }


def networks_table(rows: Sequence[Row]) -> Table:
    """Return the table of the road networks, with a `network_row` each."""
    table = terminal_table("road networks", NETWORK_COLUMNS, rows)
    for column in table.columns[-2:]:
        column.justify, column.no_wrap = "left", False
    return table
