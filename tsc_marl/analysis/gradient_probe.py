"""The gradient probe: bias and variance of each advantage estimator at saved policies, without the noise of training."""

import csv
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from tsc_marl import algos, console
from tsc_marl.algos.ippo import Ippo
from tsc_marl.analysis import advantage_estimators
from tsc_marl.analysis.gradient_statistics import AGGREGATE_VIEWS, BATCH, SHARED, TRUTH, Estimate, GradientStatistics
from tsc_marl.errors import UserError
from tsc_marl.evaluation.tables import Column, span, terminal_table
from tsc_marl.paths import make_folder
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.sim import seeds
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import checkpoint
from tsc_marl.tracking.policies import find_checkpoint
from tsc_marl.tracking.run_folder import TrainingFolder
from tsc_marl.types import Batch, Spec
from tsc_marl.viz.plotting import new_figure

log = logging.getLogger(__name__)

MIN_EPISODES = 16
"""Fewer episodes have no meaningful interval."""
RUN_SETTINGS = ("gamma", "gae_lambda", "critic_hidden", "adv_norm")
"""Settings of the run that the probe uses for its critics and advantages."""


@dataclass(frozen=True)
class Subject:
    """A saved policy."""

    path: Path
    label: str
    task: Task
    policy: TrainedPolicy


def run(network: str, names: Sequence[str], episodes: int, truth_lam: float, out: Path, workers: int) -> None:
    """Probe policies: print a table of each, write the results as files and as a plot.

    Critics are fitted in one thread, as in training: the results do not depend on the number of cores.

    Args:
        network: road network.
        names: policies, or folders of runs, whose snapshots are probed one by one.
        episodes: episodes of each policy, an even number.
        truth_lam: lambda of the returns that the true gradient is estimated from.
        out: folder of the files.
        workers: processes that simulate.

    Raises:
        UserError: for policies that cannot be probed, and for too few episodes.
    """
    torch.set_num_threads(1)
    if episodes < MIN_EPISODES or episodes % 2:
        raise UserError(f"episodes must be an even number of at least {MIN_EPISODES}; got {episodes}")
    if not 0 <= truth_lam <= 1:
        raise UserError(f"truth-lam must lie in [0, 1]; got {truth_lam}")
    subjects = [_subject(path, network) for name in names for path in checkpoints(name, network)]
    if len({subject.label for subject in subjects}) < len(subjects):
        subjects = [replace(subject, label=f"{subject.label} ({subject.path})") for subject in subjects]
    make_folder(out)
    results: dict[str, GradientStatistics] = {}
    with Pool(workers) as pool:
        learners = [learner(subject.policy, pool.read_spec(subject.task)) for subject in subjects]
        for subject, algorithm in zip(subjects, learners, strict=True):
            log.info("%s: playing %d episodes, then fitting critics …", subject.label, episodes)
            settings = {name: getattr(subject.policy.config, name) for name in RUN_SETTINGS}
            batch = collect(pool, subject, episodes)
            results[subject.label] = advantage_estimators.measure(algorithm, batch, settings, truth_lam=truth_lam)
            scale = "not normalised" if settings["adv_norm"] == "none" else f"normalised by {settings['adv_norm']}"
            learned = f"lambda {settings['gae_lambda']:g}, advantages {scale}"
            console.show(table(f"{subject.label} ({learned})", results[subject.label]))
            write(out, {"network": network, "episodes": episodes, "truth_lam": truth_lam, "batch": BATCH}, results)
    draw(out / "probe.png", f"{network}, {episodes} episodes of each policy", results)
    log.info("results of all agents: %s/probe.json and .csv; plot: %s/probe.png", out, out)


def checkpoints(name: str, network: str) -> list[Path]:
    """Return the checkpoint of a policy; for the folder of a run, its snapshots in order, then the last checkpoint."""
    folder = Path(name)
    if not folder.is_dir():
        return [find_checkpoint(name, network)]
    paths = TrainingFolder(folder).checkpoints()
    if not paths:
        raise UserError(f"{folder} holds no checkpoint; give a folder runs/<training>/<algorithm>-s<seed>")
    return paths


def _subject(path: Path, network: str) -> Subject:
    saved = checkpoint.load(path)
    policy = saved.policy(network)
    label = f"{saved.algorithm} s{saved.seed}, episode {saved.episode}"
    return Subject(path, label, policy.task_for(Task(network, Timing(**saved.timing))), policy)


def learner(policy: TrainedPolicy, spec: Spec) -> Ippo:
    """Return the algorithm of a policy.

    Raises:
        UserError: when it has no policy gradient per agent.
    """
    algorithm = policy.algorithm(spec)
    if isinstance(algorithm, Ippo) and _softmax(type(algorithm)):
        return algorithm
    able = ", ".join(name for name in algos.available() if _softmax(algos.find(name)))
    raise UserError(f"{policy.name} has no softmax policy of single agents, and the probe needs one; give a run of {able}")


def _softmax(kind: type) -> bool:
    """Return whether an algorithm's policy is the softmax of its actor's last layer, for each agent alone."""
    return issubclass(kind, Ippo) and kind.independent_softmax


def collect(pool: Pool, subject: Subject, episodes: int) -> Batch:
    """Play episodes as in training, exploring."""
    sumo_seeds = range(seeds.PROBE_SEEDS, seeds.PROBE_SEEDS + episodes)
    jobs = [Job(seed, subject.task, subject.policy, seed, explore_seed=seed) for seed in sumo_seeds]
    played = sorted(pool.run(jobs), key=lambda episode: episode.job.episode)
    return Batch.join([episode.batch for episode in played if episode.batch is not None])


COLUMNS = (
    Column("estimator", "estimator"),
    Column("cosine", "cosine to truth"),
    Column("episodes", "episodes to cosine 1/2"),
    Column("gain", f"gain of {BATCH} episodes"),
    Column("relative", f"gain over {SHARED}'s"),
)


def table(title: str, statistics: GradientStatistics) -> Table:
    """Return the table of one policy, all agents together."""
    agree = statistics.reliability
    halves = f"the true gradients of two halves have cosine {_text(agree, '.2f')}"
    rows = []
    for name, views in statistics.quality.items():
        quality = views["agents"]
        bound = f"> {quality.episodes.low:.3g}" if math.isnan(quality.episodes.value) else _text(quality.episodes)
        rows.append(
            {
                "estimator": name,
                "cosine": "1" if name == TRUTH else _text(quality.cosine, ".2f"),
                "episodes": bound,
                "gain": _text(quality.gain),
                "relative": "1" if name == SHARED else _text(quality.relative, ".2f"),
            }
        )
    return terminal_table(f"{title}: {halves}", COLUMNS, rows)


def _text(estimate: Estimate, form: str = ".3g") -> str:
    """Return an estimate with its interval as text."""
    if math.isnan(estimate.value):
        return "noise"
    return f"{estimate.value:{form}} ({span((estimate.low, estimate.high), form)})"


def write(folder: Path, settings: dict[str, Any], results: dict[str, GradientStatistics]) -> None:
    """Write all results as JSON and, a row per policy, estimator and agent, as CSV; undefined numbers are empty."""
    content = {**settings, "policies": {label: asdict(statistics) for label, statistics in results.items()}}
    (folder / "probe.json").write_text(json.dumps(_plain(content), indent=1), encoding="utf-8")
    rows = [
        {"policy": label, "estimator": name, "agent": agent}
        | {f"{key}_{end}": number for key, ends in asdict(quality).items() for end, number in _plain(ends).items()}
        for label, statistics in results.items()
        for name, qualities in statistics.quality.items()
        for agent, quality in qualities.items()
    ]
    with (folder / "probe.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _plain(value: Any) -> Any:
    """Return the value with None for nan and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def draw(path: Path, title: str, results: dict[str, GradientStatistics]) -> None:
    """Draw the gain over the number of episodes in a batch, and each agent's gain, a row per policy."""
    figure = new_figure(figsize=(11, 4.2 * len(results)), layout="constrained")
    axes = figure.subplots(len(results), 2, squeeze=False)
    for (left, right), (label, statistics) in zip(axes, results.items(), strict=True):
        _curves(left, label, statistics)
        _dots(right, statistics)
    axes[0, 0].legend(ncols=2, fontsize=8)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _colours(statistics: GradientStatistics) -> dict[str, str]:
    others = [name for name in statistics.quality if name != TRUTH]
    return {TRUTH: "black"} | {name: f"C{i}" for i, name in enumerate(others)}


def _curves(axis: Any, label: str, statistics: GradientStatistics) -> None:
    """Draw the gain of all agents over the number of episodes, with its interval as a shade."""
    for name, colour in _colours(statistics).items():
        counts, gains = zip(*statistics.gains[name].items(), strict=True)
        axis.plot(counts, [g.value for g in gains], color=colour, linestyle="--" if name == TRUTH else "-", label=name)
        axis.fill_between(counts, [g.low for g in gains], [g.high for g in gains], color=colour, alpha=0.08, linewidth=0)
    axis.axhline(0, color="0.4", linewidth=0.8)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.set_xlabel("episodes in a batch")
    axis.set_ylabel("gain of the team per unit of step\n[reward per decision]")
    axis.set_title(label)
    axis.grid(alpha=0.3)


def _dots(axis: Any, statistics: GradientStatistics) -> None:
    """Draw each agent's gain, filled where it differs significantly from zero."""
    colours = _colours(statistics)
    for i, (name, colour) in enumerate(colours.items()):
        agents = [quality.gain for agent, quality in statistics.quality[name].items() if agent not in AGGREGATE_VIEWS]
        faces = [colour if gain.low > 0 or gain.high < 0 else "none" for gain in agents]
        axis.scatter(
            [gain.value for gain in agents], [i] * len(agents), edgecolors=colour, facecolors=faces, s=24, linewidths=0.9
        )
    axis.axvline(0, color="0.4", linewidth=0.8)
    axis.set_yticks(range(len(colours)), list(colours))
    axis.invert_yaxis()
    axis.set_xlabel(f"gain along each agent's gradient of {BATCH} episodes [reward per decision]")
    axis.set_title("a dot per agent, filled where it differs significantly from 0")
    axis.grid(alpha=0.3)
