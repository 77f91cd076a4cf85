"""The end of a training: its policies on held-out seeds beside the classical controllers, as table, files and artifacts."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tsc_marl import console, deploy
from tsc_marl.config import ExperimentConfig
from tsc_marl.console import make_line
from tsc_marl.evaluation import notes, statistics, tables
from tsc_marl.evaluation.evaluate import Results, evaluate, is_refusal, load_matching_results, write_results
from tsc_marl.rollout.policies import ControllerPolicy, Policy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.sim.scenario import typed
from tsc_marl.tracking.policies import find_policy
from tsc_marl.tracking.run_folder import RunFolder
from tsc_marl.tracking.store import Tracker
from tsc_marl.training.run import TrainingRun
from tsc_marl.viz import learning_curve

logger = logging.getLogger(__name__)


def evaluate_and_report(pool: Pool, tracker: Tracker, trainings: list[TrainingRun], folder: RunFolder, parent: str) -> None:
    """Evaluate the final policies beside the classical controllers; write the table, files and artifacts."""
    experiment = trainings[0].experiment
    task = experiment.eval_task()
    measured = load_matching_results(folder.measured, task, experiment.baselines, experiment.eval_seeds)
    controllers = {name: find_policy(name, task) for name in experiment.baselines if name not in measured}
    policies = controllers | {run.label: run.policy() for run in trainings}
    results = measured | _evaluate(pool, task, policies, experiment.eval_seeds)
    write_results(folder.evaluation, task, results)
    baseline_delays = {name: statistics.mean(results[name], "delay") for name in experiment.baselines if name in results}
    for run in trainings:
        _log_evaluation(tracker, run, results, baseline_delays)
    histories, title = {run.label: run.history for run in trainings}, f"{experiment.network}: {', '.join(experiment.algos)}"
    learning_curve.draw(folder.learning_curve, histories, baseline_delays, title)
    for path in (folder.evaluation, folder.learning_curve):
        tracker.artifact(parent, path)
    tracker.describe(parent, tables.markdown(results, experiment.metrics))
    spent = {run.label: (run.episode, run.minutes) for run in trainings}
    measured_on = f"mean over {len(experiment.eval_seeds)} held-out seeds, greedy final policies"
    title = f"{experiment.network}, timing {experiment.timing_preset}: {measured_on}"
    minor = tables.left_out_first(tables.result_columns(named=experiment.metrics))
    console.show(tables.results_table(title, results, spent, named=experiment.metrics), minor)
    for note in notes.from_metrics(results):
        logger.info(note)
    logger.info(_next_commands(experiment, folder))


def _evaluate(pool: Pool, task: Task, policies: Mapping[str, Policy], seeds: Sequence[int]) -> Results:
    """Play all policies; a classical controller that cannot serve the network is left out with one line."""
    left_out: set[str] = set()
    with console.progress(f"evaluation on {len(seeds)} held-out seeds", len(policies) * len(seeds)) as progress:

        def watch(name: str, _seed: int, error: Exception | None) -> None:
            progress.advance()
            if error is None or name in left_out:
                return
            if not (is_refusal(error) and isinstance(policies[name], ControllerPolicy)):
                raise error
            left_out.add(name)
            logger.warning(f"{task.network}: {name} is left out: {error}")

        return evaluate(pool, task, policies, seeds, watch=watch)


def _next_commands(experiment: ExperimentConfig, folder: RunFolder) -> str:
    last, net = experiment.algos[-1], {"NET": typed(experiment.network)}
    preset = experiment.timing_preset
    played = net | ({} if preset == ExperimentConfig.timing_preset else {"TIMING": preset})
    commands: list[tuple[str, dict[str, str | list[str]]]] = [
        ("ui", {}), ("watch", {**played, "POLICY": last}), ("evaluate", {**played, "POLICY": [last, "max_pressure"]}),
        ("compare", {**net}), ("report", {**net}), ("explain", {**played, "POLICY": last}),
    ]  # fmt: skip
    lines = [f"  {make_line(verb, **variables)}" for verb, variables in commands]
    return "\n".join([f"\nlearning curve: {folder.learning_curve}", "next:", *lines])


def _log_evaluation(tracker: Tracker, run: TrainingRun, results: Results, baseline_delays: dict[str, float]) -> None:
    episodes, folder = results[run.label], run.folder
    means = {f"eval/{metric}": statistics.mean(episodes, metric) for metric in episodes[0].values}
    means["eval/median_delay"] = float(np.median([episode["delay"] for episode in episodes]))
    step = int(run.history[-1]["steps"])
    if tracker.logged_until(run.mlflow_id, "eval/delay") < step:
        tracker.log(run.mlflow_id, means, step)
    write_results(folder.evaluation, run.experiment.eval_task(), {run.label: episodes})
    folder.config.write_text(json.dumps(run.config.as_dict(), indent=1), encoding="utf-8")
    title = f"{run.experiment.network}: {run.label}"
    learning_curve.draw(folder.learning_curve, {run.label: run.history}, baseline_delays, title)
    for path in (folder.checkpoint, folder.evaluation, folder.config, folder.learning_curve):
        tracker.artifact(run.mlflow_id, path)
    _log_policy_model(tracker, run)
    uses = f'mlflow.pyfunc.load_model("runs:/{run.mlflow_id}/policy").predict({{"obs": obs, "avail": avail}})'
    beside = {name: results[name] for name in results if name in (run.label, *baseline_delays)}
    tracker.describe(
        run.mlflow_id, f"{tables.markdown(beside, run.experiment.metrics)}\n\nThe policy in another program: `{uses}`"
    )


def _log_policy_model(tracker: Tracker, run: TrainingRun) -> None:
    """Keep the policy for other programs."""
    spec, path, experiment = run.learner.algorithm.spec, run.folder.policy, run.experiment
    signals, version = run.fingerprint.get("signals"), experiment.sim.observation_version
    policy = replace(run.policy(), sim=experiment.sim, signals=signals, observation_version=version)
    deploy.save(path, policy, spec, experiment.timing)
    obs, avail = (-1, spec.n_agents, spec.obs_dim), (-1, spec.n_agents, spec.n_actions)
    tensors = {"obs": ("float32", obs), "avail": ("bool", avail), "action": ("int64", avail[:2])}
    tracker.model(run.mlflow_id, "policy", deploy.__name__, path, tensors)
