"""Results of a comparison: final delay and speed of learning per group, with their uncertainty, and the tables of both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from tsc_marl.analysis.compare import THRESHOLD_CONTROLLER, Comparison, Training
from tsc_marl.evaluation import statistics
from tsc_marl.evaluation.tables import Column, Row, left_out_first, median, number, span, terminal_table


@dataclass(frozen=True)
class Summary:
    """Results of the trainings of one group."""

    seeds: int
    delay: float
    """Interquartile mean over seeds and evaluation episodes [s]."""
    interval: statistics.Interval
    """95 % interval of `delay` [s]; nan for one training."""
    seeds_delay: float
    """Interquartile mean over seeds of each training's mean delay [s]: a jam counts in its training."""
    mean: float
    """Mean over seeds and evaluation episodes, gridlocked ones included [s]."""
    sd_over_seeds: float
    """Standard deviation over seeds of the mean delay [s]; nan for one training."""
    p_better: float
    """Probability that a training ends with less delay than one of the reference; nan for the reference."""
    p_interval: statistics.Interval
    """95 % interval of `p_better`."""
    episodes: list[float]
    """Training episodes of each seed until the threshold is reached, infinite if never; empty without a threshold."""
    minutes: list[float]
    """Minutes of training of each seed until then; infinite if never, empty without a threshold."""
    training_delay: float
    """Mean delay over all training episodes [s]."""
    final_slope: float
    """Change of the training delay over the last quarter of training [s]."""
    gridlock: float
    """Share of the evaluation episodes with a gridlock."""


def summarise(comparison: Comparison, reference: str) -> dict[str, Summary]:
    """Return the results of each group, best delay first."""
    groups, threshold = comparison.groups, comparison.threshold
    results = {name: _summary(groups[name], groups[reference] if name != reference else None, threshold) for name in groups}
    return dict(sorted(results.items(), key=lambda entry: entry[1].delay))


COLUMNS = (
    Column("algorithm", "algorithm", lambda name: name.replace(" (", "\n(")),
    Column("seeds", "seeds"),
    Column("delay", "delay [s],\nIQM", number(".1f")),
    Column("interval", "95 % [s]", span),
    Column("seeds_delay", "IQM of\nseeds [s]", number(".1f"), 3),
    Column("mean", "mean [s]", number(".1f"), 3),
    Column("sd_over_seeds", "SD over\nseeds [s]", number(".1f"), 6),
    Column("p_better", "P(better)\nthan reference", number(".2f")),
    Column("p_interval", "its 95 %", lambda interval: span(interval, ".2f"), 4),
    Column("episodes", "episodes to\nmax pressure", median(".0f"), 1),
    Column("minutes", "minutes to\nmax pressure", median(".1f"), 7),
    Column("training_delay", "training\ndelay [s]", number(".0f"), 5),
    Column("final_slope", "final\nslope [s]", number("+.1f"), 8),
    Column("gridlock", "gridlock", number(".0%"), 2),
)
"""Columns of a comparison, with a row per group: the fields of `Summary`."""
MINOR = left_out_first(COLUMNS)
LEGEND = "IQM: interquartile mean over training seeds and evaluation episodes; IQM of seeds: over the mean delay of each training"


def columns(reference: str) -> list[Column]:
    """Return the columns of a comparison with this group as the reference."""
    return [replace(column, title=column.title.replace("reference", reference)) for column in COLUMNS]


def rows(comparison: Comparison, reference: str) -> list[Row]:
    """Return the rows of a comparison, best delay first."""
    return [{"algorithm": name, **vars(summary)} for name, summary in summarise(comparison, reference).items()]


def table(comparison: Comparison, reference: str) -> Table:
    """Return the table of a comparison, best delay first; the group `reference` is compared with the others."""
    delay = comparison.baseline_delays.get(THRESHOLD_CONTROLLER)
    beside = f", {THRESHOLD_CONTROLLER} {delay:.1f} s" if delay is not None else ""
    beside += "" if comparison.same_demand else "; training had another demand"
    title = f"{comparison.network}: final greedy policies on held-out seeds{beside}"
    return terminal_table(title, columns(reference), rows(comparison, reference))


def caveats(comparison: Comparison) -> str:
    """Return warnings about the results: few trainings, different commits in one group, or unknown files; empty if none."""
    counts = {name: len(trainings) for name, trainings in comparison.groups.items()}
    warnings = []
    if min(counts.values()) < 2:
        warnings.append("no interval where there is one training only: how much trainings vary is then unknown; add seeds")
    if any(2 <= count < 10 for count in counts.values()):
        hold = "2, 3, 5 and 10 trainings hold the truth 54, 74, 86 and 94 times of 100 where trainings vary as normal values do"
        warnings.append(f"95 % intervals of few trainings are too narrow: those of {hold}")
    mixed = [name for name, trainings in comparison.groups.items() if len({training.commit for training in trainings}) > 1]
    if mixed:
        warnings.append(f"trainings of different git commits stand in one row: {', '.join(mixed)}")
    unknown = [len([training for training in group if not training.says_its_files]) for group in comparison.groups.values()]
    if 0 < sum(unknown) < len(comparison.trainings):
        names = ", ".join(name for name, number in zip(comparison.groups, unknown, strict=True) if number)
        which = f"{sum(unknown)} of {len(comparison.trainings)} trainings"
        warnings.append(f"{which} are of earlier versions, so nobody knows whether they had the same network and demand: {names}")
    return "; ".join(warnings + origins(comparison))


def origins(comparison: Comparison) -> list[str]:
    """Return which trainings were not imported, where others were, and which of them stand for imported ones."""
    own = [f"{name} seed {one.seed}" for name, group in comparison.groups.items() for one in group if not one.is_imported]
    if not comparison.replaced and len(own) in (0, len(comparison.trainings)):
        return []
    warnings = [f"trainings of your own stand beside imported ones: {', '.join(own)}"]
    if comparison.replaced:
        alone = "--where \"tags.imported = 'yes'\" takes the imported ones"
        warnings.append(f"newer ones of your own replace imported ones: {', '.join(comparison.replaced)} ({alone})")
    return warnings


RUN_COLUMNS = (
    COLUMNS[0],
    Column("seed", "seed"),
    Column("delay", "delay [s]", number(".1f")),
    Column("median", "median [s]", number(".1f"), 4),
    Column("episodes", "episodes", number(".0f"), 1),
    Column("minutes", "minutes", number(".1f"), 2),
    Column("commit", "commit", priority=3),
    Column("run", "run"),
)
"""Columns of a list of trainings, with a row each."""
RUN_MINOR = left_out_first(RUN_COLUMNS)


def runs_table(comparison: Comparison) -> Table:
    """Return a row for each training, best delay first."""
    results: list[dict[str, Any]] = [
        {
            "algorithm": name,
            "seed": training.seed,
            "delay": float(training.delay.mean()),
            "median": float(np.median(training.delay)),
            "episodes": training.curve["episode"][-1],
            "minutes": training.curve["minutes"][-1],
            "commit": training.commit,
            "run": training.run_id,
        }
        for name, trainings in comparison.groups.items()
        for training in trainings
    ]
    results.sort(key=lambda row: row["delay"])
    return terminal_table(f"{comparison.network}: finished trainings", RUN_COLUMNS, results)


def _summary(trainings: Sequence[Training], reference: Sequence[Training] | None, threshold: float | None) -> Summary:
    values = delays(trainings)
    ends, curves = values.mean(axis=1), [training.curve for training in trainings]
    share = low = high = float("nan")
    if reference is not None:
        share, low, high = statistics.probability_of_improvement(ends.tolist(), delays(reference).mean(axis=1).tolist())
    return Summary(
        seeds=len(trainings),
        delay=float(statistics.iqm(values.ravel())),
        interval=statistics.bootstrap(values, statistics.iqm),
        seeds_delay=float(statistics.iqm(ends)),
        mean=float(values.mean()),
        sd_over_seeds=float(ends.std(ddof=1)) if len(ends) > 1 else float("nan"),
        p_better=share,
        p_interval=(low, high),
        episodes=_until_threshold(curves, "episode", threshold),
        minutes=_until_threshold(curves, "minutes", threshold),
        training_delay=float(np.mean([statistics.mean_training_delay(c["episode"], c["delay"]) for c in curves])),
        final_slope=float(np.mean([statistics.final_slope(c["episode"], c["delay"]) for c in curves])),
        gridlock=float(np.mean([training.gridlock for training in trainings])),
    )


def delays(trainings: Sequence[Training]) -> np.ndarray:
    """Return the delays [s] of the final policies, [S, E]."""
    return np.array([training.delay for training in trainings])


def _until_threshold(curves: Sequence[dict[str, np.ndarray]], axis: str, threshold: float | None) -> list[float]:
    """Return the episodes or minutes of each training until the threshold; empty without one."""
    if threshold is None:
        return []
    return [statistics.episodes_to_threshold(c[axis], c["episode"], c["delay"], threshold) for c in curves]
