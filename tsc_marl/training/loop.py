"""Training loop: collect, learn, log, save; then evaluate beside the classical controllers."""

import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from tsc_marl import console, deploy
from tsc_marl.config import RunConfig, as_dict, command_line, parse
from tsc_marl.errors import UserError, unknown
from tsc_marl.evaluation import tables
from tsc_marl.evaluation.evaluate import Results, evaluate, load_matching_results, write_results
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool, WorkerDiedError
from tsc_marl.rollout.task import check_task
from tsc_marl.tracking.run_folder import RunFolder, runs
from tsc_marl.tracking.store import Tracker
from tsc_marl.training import settings
from tsc_marl.training.run import TrainingRun, train_iteration
from tsc_marl.types import Spec
from tsc_marl.viz import learning_curve

logger = logging.getLogger(__name__)


def train(argv: list[str]) -> Path:
    """Train, evaluate and report as a command line asks; `--resume` continues an earlier run.

    Returns the folder of the run.

    Learns in one thread: the order of torch's sums depends on the number of threads.
    """
    torch.set_num_threads(1)
    configs, folder = parse(argv), None
    if configs[0].resume:
        configs, folder = _resumed(configs[0], argv)
    first = configs[0]
    for note in check_task(first.task()):
        logger.info(note)
    tracker = Tracker(first.network)
    with contextlib.ExitStack() as held:
        if folder is not None:
            held.enter_context(run_lock(folder))
        pool = held.enter_context(Pool(first.workers, max(config.concurrent_episodes for config in configs)))
        spec = pool.read_spec(first.task())
        if folder is None:
            folder = _new_folder(first.network, argv, configs)
            held.enter_context(run_lock(folder))
        _train_all(pool, tracker, configs, spec, folder)
    return folder.path


@contextlib.contextmanager
def run_lock(folder: RunFolder) -> Iterator[None]:
    """Lock a run; refuse one that another process trains, since both would write the same checkpoints."""
    lock = FileLock(folder.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder.name} is being trained by another process; wait for it, or stop it first") from None
    try:
        yield
    finally:
        lock.release()


def _train_all(pool: Pool, tracker: Tracker, configs: list[RunConfig[Any]], spec: Spec, folder: RunFolder) -> None:
    first = configs[0]
    parent = _parent(tracker, first, folder)
    trainings: list[TrainingRun] = []
    status = "FAILED"
    try:
        for config, name in zip(configs, first.algos, strict=True):
            for seed in first.seeds:
                trainings.append(_open_run(tracker, config, name, seed, spec, folder, parent))
                _learn(pool, tracker, trainings[-1])
        _evaluate_and_report(pool, tracker, trainings, folder, parent)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        logger.warning(f"stopped; go on with: make train RESUME={folder.name}")
        raise
    except WorkerDiedError as error:
        raise WorkerDiedError(f"{error}; the checkpoint is saved, go on with: make train RESUME={folder.name}") from None
    finally:
        for run_id in (*(run.mlflow_id for run in trainings), parent):
            tracker.end(run_id, status)
    if not tracker.lost:
        folder.finished.touch()


def _new_folder(network: str, argv: Sequence[str], configs: Sequence[RunConfig[Any]]) -> RunFolder:
    folder = RunFolder(runs() / f"{network}-{datetime.now():%Y%m%d-%H%M%S}")
    try:
        prepare(folder, argv, configs)
    except FileExistsError:  # another training started in this second
        time.sleep(1)
        return _new_folder(network, argv, configs)
    return folder


def prepare(folder: RunFolder, argv: Sequence[str], configs: Sequence[RunConfig[Any]]) -> None:
    """Make the folder of a new run with its command line and its settings, which `--resume` reads.

    Raises:
        FileExistsError: when there is one; never half of one.
    """
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.path.parent, prefix=".") as scratch:
        new = RunFolder(Path(scratch, "new"))
        new.path.mkdir()
        new.command.write_text(json.dumps(list(argv)))
        new.config.write_text(settings.to_json(configs))
        try:
            new.path.rename(folder.path)
        except OSError as error:
            raise FileExistsError(folder.path) if folder.path.exists() else error from None


def _command(folder: RunFolder) -> str:
    return command_line("train", json.loads(folder.command.read_text()))


def _resumed(config: RunConfig[Any], argv: list[str]) -> tuple[list[RunConfig[Any]], RunFolder]:
    """Return the settings and the folder of an earlier run."""
    others = [word for word in argv if word.startswith("--") and word.split("=")[0] not in ("--resume", "--workers")]
    if others:
        raise UserError(f"--resume {config.resume} keeps the settings of that run; leave out {' '.join(others)}")
    folder = RunFolder.named(Path(config.resume or "").name)
    if not folder.command.is_file():
        raise unknown("run", folder.name, [path.name for path in runs().glob("*") if RunFolder(path).command.is_file()])
    return [replace(earlier, workers=config.workers) for earlier in settings.read(folder)], folder


def _parent(tracker: Tracker, config: RunConfig[Any], folder: RunFolder) -> str:
    """Open the parent run in the store, or reopen that of a resumed run."""
    path = folder.parent_id
    if path.exists() and tracker.reopen(path.read_text()):
        return path.read_text()
    tags = {"kind": "comparison", "network": config.network, "folder": folder.name, "command": _command(folder)}
    run_id = tracker.start(f"{' vs '.join(config.algos)} ({folder.name})", tags, as_dict(config))
    path.write_text(run_id)
    return run_id


def _open_run(
    tracker: Tracker, config: RunConfig[Any], name: str, seed: int, spec: Spec, folder: RunFolder, parent: str
) -> TrainingRun:
    """Start a run, or continue it from its checkpoint."""
    run = TrainingRun(config, name, seed, spec, folder.training(name, seed))
    if not (run.mlflow_id and tracker.reopen(run.mlflow_id)):
        tags = {
            "kind": "training",
            "network": config.network,
            "algorithm": name,
            "seed": str(seed),
            "timing": config.timing_preset,
        }
        tags |= {"folder": folder.name, "command": _command(folder)}
        run.mlflow_id = tracker.start(
            f"{name} seed {seed} ({folder.name})", tags, as_dict(replace(config, algos=(name,), seeds=(seed,))), parent
        )
        run.stage_checkpoint()
    return run


def _learn(pool: Pool, tracker: Tracker, run: TrainingRun) -> None:
    """Train to the end; save a checkpoint whatever happens, and a snapshot at each quarter of the way."""
    config = run.config
    times, logged = 0, tracker.logged_until(run.mlflow_id, "reward")
    for row in run.history:
        if row["steps"] > logged:  # the store was lost meanwhile, or the run deleted
            tracker.log(run.mlflow_id, row, int(row["steps"]))
    quarters = {config.episodes * k // 4 // config.episodes_per_update * config.episodes_per_update for k in range(4)}
    try:
        with console.progress(run.label, config.episodes, run.episode) as progress:
            while run.episode < config.episodes:
                if run.episode in quarters:
                    run.snapshot()
                metrics = train_iteration(pool, run)
                run.stage_checkpoint()
                times += 1
                step = int(run.history[-1]["steps"])
                if step > logged:
                    tracker.log(run.mlflow_id, metrics, step)
                progress.update(run.episode, _summary(metrics))
                if times % config.checkpoint_every == 0:
                    run.save()
    finally:
        run.save()


def _summary(metrics: Mapping[str, float]) -> str:
    """Return the metrics of an update that fit beside a progress bar."""
    explores = [f"{name} {metrics[f'policy/{name}']:.2f}" for name in ("entropy", "epsilon") if f"policy/{name}" in metrics][:1]
    return ", ".join([f"delay {metrics['delay']:.1f} s", *explores])


def _evaluate_and_report(pool: Pool, tracker: Tracker, trainings: list[TrainingRun], folder: RunFolder, parent: str) -> None:
    """Evaluate the final policies beside the classical controllers; write the table, files and artifacts."""
    config = trainings[0].config
    logger.info(f"evaluating on {len(config.eval_seeds)} held-out seeds …")
    measured = load_matching_results(folder.measured, config.eval_task(), config.baselines, config.eval_seeds)
    controllers = {name: ControllerPolicy(name) for name in config.baselines if name not in measured}
    policies = controllers | {run.label: run.policy() for run in trainings}
    results = measured | evaluate(pool, config.eval_task(), policies, config.eval_seeds)
    write_results(folder.evaluation, config.eval_task(), results)
    baseline_delays = {name: float(np.mean([row["delay"] for row in results[name]])) for name in config.baselines}
    for run in trainings:
        _log_evaluation(tracker, run, results, baseline_delays)
    histories, title = {run.label: run.history for run in trainings}, f"{config.network}: {', '.join(config.algos)}"
    learning_curve.draw(folder.learning_curve, histories, baseline_delays, title)
    for path in (folder.evaluation, folder.learning_curve):
        tracker.artifact(parent, path)
    tracker.describe(parent, tables.markdown(results))
    spent = {run.label: (run.episode, run.minutes) for run in trainings}
    measured_on = f"mean over {len(config.eval_seeds)} held-out seeds, greedy final policies"
    title = f"{config.network}, timing {config.timing_preset}: {measured_on}"
    console.show(tables.results_table(title, results, spent), tables.MINOR)
    logger.info(_next_commands(config, folder))


def _next_commands(config: RunConfig[Any], folder: RunFolder) -> str:
    last, net = config.algos[-1], f"NET={config.network}"
    played = net if config.timing_preset == RunConfig.timing_preset else f"{net} TIMING={config.timing_preset}"
    verbs = ["ui", f"watch {played} POLICY={last}", f'evaluate {played} POLICY="{last} max_pressure"', f"compare {net}"]
    verbs += [f"report {net}", f"explain {played} POLICY={last}"]
    return "\n".join([f"\nlearning curve: {folder.learning_curve}", "next:", *(f"  make {verb}" for verb in verbs)])


def _log_evaluation(tracker: Tracker, run: TrainingRun, results: Results, baseline_delays: dict[str, float]) -> None:
    rows, folder = results[run.label], run.folder
    means = {f"eval/{key}": float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "seed"}
    means["eval/median_delay"] = float(np.median([row["delay"] for row in rows]))
    step = int(run.history[-1]["steps"])
    if tracker.logged_until(run.mlflow_id, "eval/delay") < step:
        tracker.log(run.mlflow_id, means, step)
    write_results(folder.evaluation, run.config.eval_task(), {run.label: rows})
    folder.config.write_text(json.dumps(as_dict(run.config), indent=1))
    title = f"{run.config.network}: {run.label}"
    learning_curve.draw(folder.learning_curve, {run.label: run.history}, baseline_delays, title)
    for path in (folder.checkpoint, folder.evaluation, folder.config, folder.learning_curve):
        tracker.artifact(run.mlflow_id, path)
    _log_policy_model(tracker, run)
    uses = f'mlflow.pyfunc.load_model("runs:/{run.mlflow_id}/policy").predict({{"obs": obs, "avail": avail}})'
    beside = {name: results[name] for name in results if name in (run.label, *baseline_delays)}
    tracker.describe(run.mlflow_id, f"{tables.markdown(beside)}\n\nThe policy in another program: `{uses}`")


def _log_policy_model(tracker: Tracker, run: TrainingRun) -> None:
    """Keep the policy for other programs."""
    spec, path = run.learner.algorithm.spec, run.folder.policy
    deploy.save(path, run.policy(), spec)
    obs, avail = (-1, spec.n_agents, spec.obs_dim), (-1, spec.n_agents, spec.n_actions)
    tensors = {"obs": ("float32", obs), "avail": ("bool", avail), "action": ("int64", avail[:2])}
    tracker.model(run.mlflow_id, "policy", deploy.__name__, path, tensors)
