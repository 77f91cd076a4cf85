"""The end of a training: its policies on held-out seeds beside the classical controllers, as table, files and artifacts."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tsc_marl import console, deploy
from tsc_marl.config import ExperimentConfig
from tsc_marl.console import make_line
from tsc_marl.evaluation import notes, service_tables, statistics, tables
from tsc_marl.evaluation.evaluate import (
    Results,
    comparison_metrics,
    evaluate,
    is_refusal,
    load_matching_results,
    mean_over,
    write_results,
)
from tsc_marl.paths import temporary_folder
from tsc_marl.rollout.policies import ControllerPolicy, Policy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.sim import fingerprint
from tsc_marl.sim.metrics import label
from tsc_marl.sim.scenario import typed
from tsc_marl.tracking import curves, pages
from tsc_marl.tracking.policies import find_policy
from tsc_marl.tracking.registry import DELAY, NEWEST, SCHEME, model_name
from tsc_marl.tracking.run_folder import PICTURES, RunFolder, TrainingFolder
from tsc_marl.tracking.store import Tracker
from tsc_marl.training.iteration import OF_NETWORK
from tsc_marl.training.run import TrainingRun
from tsc_marl.viz import learning_curve, signal_maps
from tsc_marl.viz.engineering import pictures

logger = logging.getLogger(__name__)
MOST = 8
"""Networks with a table and a curve of their own; more are shown together."""
SPREAD = (10, 90)
"""Percentiles over the networks between which the band of a curve lies."""

ByNetwork = Mapping[str, Results]


def evaluate_and_report(pool: Pool, tracker: Tracker, trainings: list[TrainingRun], folder: RunFolder, parent: str) -> None:
    """Evaluate the final policies beside the classical controllers; write the table, files and artifacts."""
    experiment = trainings[0].experiment
    by_network = _evaluate(pool, trainings, folder)
    results = mean_over(list(by_network.values()))
    files = _write(folder, experiment, by_network)
    baseline_delays = {name: statistics.mean(results[name], "delay") for name in experiment.baselines if name in results}
    for run in trainings:
        _log_evaluation(tracker, run, by_network, baseline_delays)
    histories, title = {run.label: run.history for run in trainings}, f"{experiment.network_name}: {', '.join(experiment.algos)}"
    learning_curve.draw(folder.learning_curve, histories, baseline_delays, title)
    pictured = _draw(pool, trainings, results, folder) if experiment.plots and len(by_network) == 1 else []
    for path in (*files, folder.learning_curve, *pictured):
        tracker.artifact(parent, path)
    if pictured:
        tracker.tag(parent, PICTURES, ", ".join(results))
    tracker.log(parent, comparison_metrics(results, experiment.metrics, [run.label for run in trainings]), 0)
    answer = _answer(tracker, trainings, results, pages.picture(parent, folder.learning_curve.name))
    tracker.describe(parent, f"{answer}\n\n{_markdown(by_network, experiment)}")
    _show(trainings, by_network)
    for note in notes.from_metrics(results):
        logger.info(note)
    logger.info(_next_commands(experiment, folder))


def _draw(pool: Pool, trainings: Sequence[TrainingRun], results: Results, folder: RunFolder) -> list[Path]:
    """Draw the engineers' pictures of an episode with the first seed, which all policies play again."""
    (task,), seeds = trainings[0].experiment.eval_tasks(), trainings[0].experiment.eval_seeds
    trained = {run.label: run.policy() for run in trainings}
    policies = {name: trained.get(name) or find_policy(name, task) for name in results}
    with temporary_folder() as files:
        evaluate(pool, task, policies, seeds[:1], Path(files), trajectories=True)
        algorithms = {name: policy.name for name, policy in policies.items()}
        services = service_tables.write(folder.path, Path(files), dict.fromkeys(algorithms, seeds[:1]))
        return [*pictures.draw(folder.path, task, Path(files), algorithms, seeds[0], "fixed_time"), *services]


def keep_without_evaluation(tracker: Tracker, trainings: Sequence[TrainingRun]) -> None:
    """Keep the final policies, and write files and artifacts, without an evaluation."""
    for run in trainings:
        _keep(tracker, run, {}, [])
        logger.info(f"no evaluation seeds; the policy of {run.label}: {run.folder.checkpoint}")


def _evaluate(pool: Pool, trainings: Sequence[TrainingRun], folder: RunFolder) -> dict[str, Results]:
    """Play all policies on all networks; those of an interrupted evaluation whose files are there are not played again."""
    experiment, tasks = trainings[0].experiment, trainings[0].experiment.eval_tasks()
    seeds, trained = experiment.eval_seeds, {run.label: run.policy() for run in trainings}
    by_network, policies = dict[str, Results](), dict[str, Mapping[str, Policy]]()
    for task in tasks:
        path = folder.measured if len(tasks) == 1 else folder.evaluation_on(task.network)
        measured = by_network[task.network] = load_matching_results(path, task, experiment.baselines, seeds)
        policies[task.network] = {
            name: find_policy(name, task) for name in experiment.baselines if name not in measured
        } | trained
    episodes = len(seeds) * sum(map(len, policies.values()))
    with console.progress(f"evaluation on {len(seeds)} held-out seeds", episodes) as progress:
        for task in tasks:
            by_network[task.network] |= _play(pool, task, policies[task.network], seeds, progress)
            if len(tasks) > 1:
                write_results(folder.evaluation_on(task.network), task, by_network[task.network])
    return by_network


def _play(pool: Pool, task: Task, policies: Mapping[str, Policy], seeds: Sequence[int], progress: console.Progress) -> Results:
    """Play all policies; a classical controller that cannot serve the network is left out with one line."""
    left_out: set[str] = set()

    def watch(name: str, _seed: int, error: Exception | None) -> None:
        progress.advance()
        if error is None or name in left_out:
            return
        if not (is_refusal(error) and isinstance(policies[name], ControllerPolicy)):
            raise error
        left_out.add(name)
        logger.warning(f"{task.network}: {name} is left out: {error}")

    return evaluate(pool, task, policies, seeds, watch=watch)


def _write(folder: RunFolder | TrainingFolder, experiment: ExperimentConfig, by_network: ByNetwork) -> list[Path]:
    """Write the metrics of every episode, of several networks those of each and their means; return the JSON files."""
    first, *others = experiment.eval_tasks()
    write_results(folder.evaluation, first, mean_over(list(by_network.values())), others)
    if not others:
        return [folder.evaluation]
    for task in (first, *others):
        write_results(folder.evaluation_on(task.network), task, by_network[task.network])
    return [folder.evaluation, *map(folder.evaluation_on, by_network)]


def _show(trainings: Sequence[TrainingRun], by_network: ByNetwork) -> None:
    """Print the table of each network, of several also a table of all; of many, that alone."""
    experiment = trainings[0].experiment
    spent = {run.label: (run.episode, run.minutes) for run in trainings}
    measured_on = f"mean over {len(experiment.eval_seeds)} held-out seeds, greedy final policies"
    measured_on = f"timing {experiment.timing_preset}: {measured_on}"
    minor = tables.left_out_first(tables.result_columns(named=experiment.metrics))
    for network, results in by_network.items() if len(by_network) <= MOST else ():
        console.show(tables.results_table(f"{network}, {measured_on}", results, spent, named=experiment.metrics), minor)
    if len(by_network) > 1:
        console.show(tables.terminal_table(f"delay, {measured_on}", *tables.delays_by_network(by_network)))


def _markdown(by_network: ByNetwork, experiment: ExperimentConfig) -> str:
    if len(by_network) > 1:
        return tables.markdown_table(*tables.delays_by_network(by_network))
    return tables.markdown(next(iter(by_network.values())), experiment.metrics)


def _answer(tracker: Tracker, trainings: Sequence[TrainingRun], results: Results, picture: str) -> str:
    """Return the delays, best first, with a link to each training, and a picture, in Markdown."""
    links = {run.label: f"[{run.label}](#/experiments/{tracker.experiment_id}/runs/{run.mlflow_id})" for run in trainings}
    delays = {name: statistics.mean(episodes, "delay") for name, episodes in results.items()}
    ranked = [f"{links.get(name, name)} {delays[name]:.1f} s" for name in sorted(delays, key=lambda name: delays[name])]
    return f"**Delay, best first:** {', '.join(ranked)}\n\n{picture}"


def _next_commands(experiment: ExperimentConfig, folder: RunFolder) -> str:
    last, nets, stored = experiment.algos[-1], [typed(name) for name in experiment.network], typed(experiment.network_name)
    if len(nets) > 1:
        last = str(folder.training(last, experiment.seeds[-1]).checkpoint)
    preset = experiment.timing_preset
    timing = {} if preset == ExperimentConfig.timing_preset else {"TIMING": preset}
    played, all_played = {"NET": nets[0], **timing}, {"NET": nets if len(nets) > 1 else nets[0], **timing}
    commands: list[tuple[str, dict[str, str | list[str]]]] = [
        ("ui", {}), ("watch", {**played, "POLICY": last}), ("evaluate", {**all_played, "POLICY": [last, "max_pressure"]}),
        ("compare", {"NET": stored}), ("report", {"NET": stored}), ("explain", {**played, "POLICY": last}),
    ]  # fmt: skip
    lines = [f"  {make_line(verb, **variables)}" for verb, variables in commands]
    return "\n".join([f"\nlearning curve: {folder.learning_curve}", "next:", *lines])


def _log_evaluation(tracker: Tracker, run: TrainingRun, by_network: ByNetwork, baseline_delays: dict[str, float]) -> None:
    own = {network: {run.label: results[run.label]} for network, results in by_network.items()}
    episodes = mean_over(list(own.values()))[run.label]
    means = {f"eval/{metric}": statistics.mean(episodes, metric) for metric in episodes[0].values}
    means["eval/median_delay"] = float(np.median([episode["delay"] for episode in episodes]))
    if tracker.logged_until(run.mlflow_id, curves.FINAL["eval/delay"]) < run.episode:
        tracker.log(run.mlflow_id, curves.shown(means, map(label, run.experiment.metrics)), run.episode)
    _keep(tracker, run, baseline_delays, _write(run.folder, run.experiment, own), means["eval/delay"])
    shown = (run.label, *run.experiment.baselines)
    beside = {network: {name: of for name, of in results.items() if name in shown} for network, results in by_network.items()}
    uses = f'mlflow.pyfunc.load_model("runs:/{run.mlflow_id}/policy").predict({{"obs": obs, "avail": avail}})'
    name = model_name(run.experiment.network_name, run.config.algorithm)
    named = f"`make evaluate NET={typed(run.experiment.network[0])} POLICY={SCHEME}{name}@{NEWEST}`"
    here = f"The newest policy of {run.config.algorithm} here: {named}. This one in another program: `{uses}`"
    tracker.describe(run.mlflow_id, f"{_markdown(beside, run.experiment)}\n\n{here}")


def _keep(
    tracker: Tracker,
    run: TrainingRun,
    baseline_delays: Mapping[str, float],
    evaluations: Sequence[Path],
    delay_s: float | None = None,
) -> None:
    """Write settings and learning curve, and keep them with the checkpoint, the evaluations and the policy in the store."""
    folder = run.folder
    folder.config.write_text(json.dumps(run.config.as_dict(), indent=1), encoding="utf-8")
    title = f"{run.experiment.network_name}: {run.label}"
    learning_curve.draw(folder.learning_curve, _curves(run), baseline_delays if len(run.tasks) == 1 else {}, title)
    of_run = run.metrics.curves()
    pictures = [folder.learning_curve, *signal_maps.draw(folder.signal_maps, of_run, title)]
    for path in (folder.checkpoint, *evaluations, folder.config, *pictures):
        tracker.artifact(run.mlflow_id, path)
    tracker.tables(run.mlflow_id, curves.write(of_run, folder.path))
    _log_policy_model(tracker, run, delay_s)


def _curves(run: TrainingRun) -> dict[str, list[dict[str, float]]]:
    """Return the curve of the training; of several networks one for each, of many their mean with the band of `SPREAD`."""
    if len(run.tasks) == 1:
        return {run.label: run.history}
    if len(run.tasks) <= MOST:
        of_each = {name: f"{OF_NETWORK}{name}" for name in run.tasks}
        return {name: [row | {"delay": row[key]} for row in run.history if key in row] for name, key in of_each.items()}
    newest: dict[str, float] = {}
    rows = []
    for row in run.history:
        newest |= {key: value for key, value in row.items() if key.startswith(OF_NETWORK)}
        low, high = np.nanpercentile(list(newest.values()), SPREAD)
        rows.append(row | {"low": float(low), "high": float(high)})
    return {f"mean of {len(run.tasks)} networks": rows}


def _log_policy_model(tracker: Tracker, run: TrainingRun, delay_s: float | None) -> None:
    """Keep the policy for other programs; of several networks, with the sizes of the first."""
    spec, path, experiment = run.learner.algorithm.spec, run.folder.policy, run.experiment
    tags = {"algorithm": run.config.algorithm, "seed": str(run.config.seed), "timing": experiment.timing_preset}
    tags |= {"eval_seeds": str(experiment.eval_seeds)[:500]} | fingerprint.tags(*(task.scenario for task in run.tasks.values()))
    tags |= {} if delay_s is None else {DELAY: f"{delay_s:.6g}"}
    signals, version = run.fingerprints[experiment.network[0]].get("signals"), experiment.sim.observation_version
    policy = replace(run.policy(), sim=experiment.sim, signals=signals, observation_version=version)
    deploy.save(path, policy, spec, experiment.timing)
    obs, avail = (-1, spec.n_agents, spec.obs_dim), (-1, spec.n_agents, spec.n_actions)
    tensors = {"obs": ("float32", obs), "avail": ("bool", avail), "action": ("int64", avail[:2])}
    name = model_name(experiment.network_name, run.config.algorithm)
    tracker.model(run.mlflow_id, "policy", deploy.__name__, path, tensors, name, tags)
