"""Final policies and classical controllers on the same held-out seeds."""

import csv
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tsc_marl.errors import UserError
from tsc_marl.evaluation import statistics
from tsc_marl.paths import file_name
from tsc_marl.rollout.policies import Policy
from tsc_marl.rollout.pool import Failure, Pool, WorkerDiedError
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import EpisodeMetrics, Job, RolloutResult
from tsc_marl.sim import fingerprint, metrics, movements
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.scenario import joined_name
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import renames, sealed
from tsc_marl.tracking.evaluation_file import Evaluation
from tsc_marl.tracking.metric_names import metric_names
from tsc_marl.tracking.registry import DELAY

logger = logging.getLogger(__name__)

MOST = 20
"""Policies with a metric each in a run that compares them."""
Results = dict[str, list[EpisodeMetrics]]
"""By policy, the metrics of each seed's episode."""


def evaluate(
    pool: Pool, task: Task, policies: Mapping[str, Policy], seeds: Sequence[int], out: Path | None = None,
    watch: Callable[[str, int, Exception | None], None] | None = None, trajectories: bool = False,
) -> Results:  # fmt: skip
    """Play every policy greedily on every SUMO seed, in parallel.

    Args:
        pool: worker processes.
        task: network, timing, demand, disturbance, and the observation of policies that have none of their own.
        policies: by their names in the results.
        seeds: SUMO seeds.
        out: keep SUMO's own files in `out/<name>/`, as `file_name` writes the name, and the service of each movement.
        watch: called after each episode with policy, seed, and its error or None. Failed episodes are then left out of
            the results; without `watch`, an error is raised.
        trajectories: keep those of the first seed too, for `viz.engineering.pictures`; needs `out`.

    Returns the metrics (`sim.metrics`) of each seed by policy, in the order of the seeds.
    """
    pairs = [(name, seed) for name in policies for seed in seeds]
    tasks = {name: policy.task_for(task) for name, policy in policies.items()}
    served = movements.of(task.scenario, task.net()) if out is not None else None
    jobs = []
    for i, (name, seed) in enumerate(pairs):
        folder = out / file_name(name) if out is not None else None
        kept = trajectories and seed == seeds[0]
        options = {"out": folder, "measure_approaches": True, "keep_trajectories": kept, "movements": served}
        jobs.append(Job(i, tasks[name], policies[name], seed, **options))
    measured: dict[int, EpisodeMetrics] = {}
    for outcome in pool.run_with_failures(jobs):
        error = outcome.error if isinstance(outcome, Failure) else None
        if error is not None and watch is None:
            raise error
        if isinstance(outcome, RolloutResult) and outcome.metrics is not None:
            measured[outcome.job.episode] = outcome.metrics
        if watch is not None:
            watch(*pairs[outcome.job.episode], error)
    results: Results = {name: [] for name in policies}
    for i, (name, _) in enumerate(pairs):
        if i in measured:
            results[name].append(measured[i])
    return {name: episodes for name, episodes in results.items() if episodes}


def is_refusal(error: Exception) -> bool:
    """Return whether a policy cannot serve the network, as opposed to an episode that crashed."""
    return isinstance(error, UserError) and not isinstance(error, WorkerDiedError)


def mean_over(results: Sequence[Results]) -> Results:
    """Return the mean over networks of each metric, seed by seed, of the policies that were measured on all of them."""
    first, *others = results
    if not others:
        return first
    means: Results = {}
    for name in (name for name in first if all(name in other for other in others)):
        rows = list(zip(*(of_network[name] for of_network in results), strict=True))
        labels = [label for label in rows[0][0].values if all(label in episode.values for episode in rows[0])]
        means[name] = [
            EpisodeMetrics(row[0].seed, {label: float(np.mean([episode[label] for episode in row])) for label in labels})
            for row in rows
        ]
    return means


def write_results(path: Path, task: Task, results: Results, others: Sequence[Task] = ()) -> None:
    """Write the metrics of every episode, as JSON with the conditions of the evaluation and as CSV with a row for each.

    Args:
        path: the JSON file.
        task: network and conditions.
        results: by policy, the metrics of each episode.
        others: further networks, where the metrics are means over all of them.

    Raises:
        UserError: when the disk does not take them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows_by_policy = {name: [episode.as_row() for episode in episodes] for name, episodes in results.items()}
    conditions = _conditions(task, *others)
    sealed.write(path, {**conditions, "results": rows_by_policy})
    network = conditions["network"]
    rows = [{"network": network, "controller": name, **row} for name, rows in rows_by_policy.items() for row in rows]
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def results_from(content: Mapping[str, Any]) -> Results:
    """Return the metrics of every episode from the content of a JSON file of `write_results`."""
    return {name: [EpisodeMetrics.from_row(renames.metrics(row)) for row in rows] for name, rows in content["results"].items()}


def load_matching_results(path: Path, task: Task, names: Sequence[str], seeds: Sequence[int]) -> Results:
    """Return the results of these controllers from a file of `write_results`.

    Controllers with other seeds, or without the task's metrics, are left out; so are all where the conditions differ. A damaged
    file counts as none, with a warning.
    """
    if not path.exists():
        return {}
    try:
        content = sealed.read(path, Evaluation, "its controllers play again")
    except UserError as error:
        logger.warning(str(error))
        return {}
    results = results_from(content)
    del content["results"]
    if conditions_today(content) != json.loads(json.dumps(_conditions(task))):
        return {}
    labels = {metrics.label(name) for name in task.metrics}
    return {
        name: results[name]
        for name in names
        if [episode.seed for episode in results.get(name, [])] == list(seeds)
        and all(labels <= episode.values.keys() for episode in results[name])
    }


def conditions_today(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions of an evaluation in the names of today; earlier versions knew fewer disturbances and times."""
    conditions = renames.renamed(content, renames.EVALUATION_PARTS)
    if "disturbance" in conditions:
        conditions["disturbance"] = asdict(Disturbance()) | conditions["disturbance"]
    if "timing" in conditions:
        conditions["timing"] = asdict(Timing()) | conditions["timing"]
    return conditions | {"demand": renames.renamed(conditions.get("demand", {}), renames.DEMAND_SETTINGS)}


def _conditions(task: Task, *others: Task) -> dict[str, Any]:
    parts = {"timing": task.timing, "sim": task.sim, "demand": task.demand, "disturbance": task.disturbance}
    scenarios = [one.scenario for one in (task, *others)]
    network, files = joined_name([scenario.name for scenario in scenarios]), fingerprint.of_scenario(*scenarios)
    played = {"network": network, "scenario": files, "sumo": version("eclipse-sumo")}
    return played | {name: asdict(part) for name, part in parts.items()}


def comparison_metrics(results: Results, named: Sequence[str], first: Sequence[str] = ()) -> dict[str, float]:
    """Return the delay [s] of each policy, and what else was asked for, as metrics of the run that compares them.

    Args:
        results: of the policies; at most `MOST` of them are there.
        named: further metrics (`sim.metrics`).
        first: policies that come before the others where there are too many.
    """
    labels = {"delay": DELAY} | {metrics.label(name): f"eval_{metrics.label(name)}" for name in named}
    policies = list(dict.fromkeys([*first, *results]))[:MOST]
    values = {f"{key}/{name}": statistics.mean(results[name], label) for label, key in labels.items() for name in policies}
    return {legal: values[name] for name, legal in metric_names(values).items()}
