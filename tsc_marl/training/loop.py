"""The training loop: collect, learn, log, save; then evaluate beside the classical controllers."""

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
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
from tsc_marl.evaluation.evaluate import CHECKPOINT, Results, evaluate, load_matching_results, write_results
from tsc_marl.paths import CONFIGS, home
from tsc_marl.rollout.pool import Pool, WorkerDiedError
from tsc_marl.rollout.types import Policy
from tsc_marl.rollout.worker import check_task
from tsc_marl.tracking.store import EVALUATION, FINISHED, Tracker
from tsc_marl.training.run import TrainingRun, train_iteration
from tsc_marl.types import Spec

COMMAND = "command.json"
MEASURED = "measured.json"
"""An evaluation whose classical controllers need not play again, if it is there."""


def train(argv: list[str]) -> Path:
    """Train, evaluate and report what a command line asks for; `--resume` goes on with an earlier one.

    Returns the folder of the training.

    Learns in one thread: torch sums in another order with each number of them, and by default has one for each core.
    """
    torch.set_num_threads(1)
    configs, folder = parse(argv), None
    if configs[0].resume:
        configs, folder = _resumed(configs[0], argv)
    first = configs[0]
    for note in check_task(first.task()):
        console.say(note)
    tracker = Tracker(first.net, console.say)
    with contextlib.ExitStack() as held:
        if folder is not None:
            held.enter_context(run_lock(folder))
        pool = held.enter_context(Pool(first.workers, console.say, max(config.concurrent_episodes for config in configs)))
        spec = pool.read_spec(first.task())
        if folder is None:
            folder = _new_folder(first.net, argv)
            held.enter_context(run_lock(folder))
        _train_all(pool, tracker, configs, spec, folder)
    return folder


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Refuse a training that another process is at: the two would write the same checkpoints."""
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{folder.name} is being trained by another process; wait for it, or stop it first") from None
    try:
        yield
    finally:
        lock.release()


def _train_all(pool: Pool, tracker: Tracker, configs: list[RunConfig[Any]], spec: Spec, folder: Path) -> None:
    first = configs[0]
    parent = _parent(tracker, first, folder)
    runs: list[TrainingRun] = []
    status = "FAILED"
    try:
        for config, name in zip(configs, first.algos, strict=True):
            for seed in first.seeds:
                runs.append(_open_run(tracker, config, name, seed, spec, folder, parent))
                _learn(pool, tracker, runs[-1])
        _evaluate_and_report(pool, tracker, runs, folder, parent)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        console.say(f"stopped; go on with: make train RESUME={folder.name}")
        raise
    except WorkerDiedError as error:
        raise WorkerDiedError(f"{error}; the checkpoint is saved, go on with: make train RESUME={folder.name}") from None
    finally:
        for run_id in (*(run.mlflow_id for run in runs), parent):
            tracker.end(run_id, status)
    if not tracker.lost:
        (folder / FINISHED).touch()


def _new_folder(network: str, argv: list[str]) -> Path:
    folder = home() / "runs" / f"{network}-{datetime.now():%Y%m%d-%H%M%S}"
    try:
        prepare(folder, argv)
    except FileExistsError:  # another training started in this second
        time.sleep(1)
        return _new_folder(network, argv)
    return folder


def prepare(folder: Path, argv: list[str]) -> None:
    """Make the folder of a new training, with what a later `--resume` needs: the command line and the files it reads.

    Raises:
        FileExistsError: when there is one; never half of one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as made:
        shutil.copytree(CONFIGS, f"{made}/new/configs")
        Path(made, "new", COMMAND).write_text(json.dumps(argv))
        try:
            Path(made, "new").rename(folder)
        except OSError as error:
            raise FileExistsError(folder) if folder.exists() else error from None


def _command(folder: Path) -> str:
    return command_line("train", json.loads((folder / COMMAND).read_text()))


def _resumed(config: RunConfig[Any], argv: list[str]) -> tuple[list[RunConfig[Any]], Path]:
    """Return the settings and the folder of an earlier training."""
    others = [word for word in argv if word.startswith("--") and word.split("=")[0] not in ("--resume", "--workers")]
    if others:
        raise UserError(f"--resume {config.resume} keeps the settings of that run; leave out {' '.join(others)}")
    runs, name = home() / "runs", Path(config.resume or "").name
    if not (runs / name / COMMAND).is_file():
        raise unknown("run", name, [path.parent.name for path in runs.glob(f"*/{COMMAND}")])
    try:
        line = [*json.loads((runs / name / COMMAND).read_text()), "--workers", str(config.workers)]
        return parse(line, runs / name / "configs"), runs / name
    except (ValueError, OSError) as error:
        raise UserError(f"run {name} cannot go on, its settings cannot be read ({error}); train again") from None


def _parent(tracker: Tracker, config: RunConfig[Any], folder: Path) -> str:
    """Open the parent run, or the one that a resumed training had."""
    path = folder / "mlflow_parent"
    if path.exists() and tracker.reopen(path.read_text()):
        return path.read_text()
    tags = {"kind": "comparison", "network": config.net, "folder": folder.name, "command": _command(folder)}
    run_id = tracker.start(f"{' vs '.join(config.algos)} ({folder.name})", tags, as_dict(config))
    path.write_text(run_id)
    return run_id


def _open_run(
    tracker: Tracker, config: RunConfig[Any], name: str, seed: int, spec: Spec, folder: Path, parent: str
) -> TrainingRun:
    """Start a run, or take it up where its checkpoint left it."""
    run = TrainingRun(config, name, seed, spec, folder / f"{name}-s{seed}")
    if not (run.mlflow_id and tracker.reopen(run.mlflow_id)):
        tags = {"kind": "training", "network": config.net, "algorithm": name, "seed": str(seed), "timing": config.timing}
        tags |= {"folder": folder.name, "command": _command(folder)}
        run.mlflow_id = tracker.start(f"{name} seed {seed} ({folder.name})", tags, as_dict(config), parent)
        run.stage_checkpoint()
    return run


def _learn(pool: Pool, tracker: Tracker, run: TrainingRun) -> None:
    """Train to the end; the checkpoint is saved whatever happens, and the policy kept at each quarter of the way."""
    config = run.config
    progress = console.Progress(f"{run.label:>12s}", config.episodes, run.episode)
    times, logged = 0, tracker.logged_until(run.mlflow_id, "reward")
    for row in run.history:
        if row["steps"] > logged:  # the store was lost meanwhile, or the run deleted
            tracker.log(run.mlflow_id, row, int(row["steps"]))
    quarters = {config.episodes * k // 4 // config.episodes_per_update * config.episodes_per_update for k in range(4)}
    try:
        while run.episode < config.episodes:
            if run.episode in quarters:
                run.snapshot()
            metrics = train_iteration(pool, run)
            run.stage_checkpoint()
            times += 1
            step = int(run.history[-1]["steps"])
            if step > logged:
                tracker.log(run.mlflow_id, metrics, step)
            progress.update(run.episode, metrics)
            if times % config.checkpoint_every == 0:
                run.save()
    finally:
        run.save()


def _evaluate_and_report(pool: Pool, tracker: Tracker, runs: list[TrainingRun], folder: Path, parent: str) -> None:
    """Evaluate the final policies beside the classical controllers; table, files, artifacts, next commands."""
    config = runs[0].config
    console.say(f"evaluating on {len(config.eval_seeds)} held-out seeds …")
    known = load_matching_results(folder / MEASURED, config.eval_task(), config.baselines, config.eval_seeds)
    policies = {name: Policy(name) for name in config.baselines if name not in known} | {run.label: run.policy() for run in runs}
    results = known | evaluate(pool, config.eval_task(), policies, config.eval_seeds)
    write_results(folder / EVALUATION, config.eval_task(), results)
    levels = {name: float(np.mean([f["delay"] for f in results[name]])) for name in config.baselines}
    for run in runs:
        _log_evaluation(tracker, run, results, levels)
    curve = folder / "learning_curve.png"
    tables.learning_curve(curve, {run.label: run.history for run in runs}, levels, f"{config.net}: {', '.join(config.algos)}")
    for path in (folder / EVALUATION, curve):
        tracker.artifact(parent, path)
    tracker.describe(parent, tables.markdown(results))
    spent = {run.label: (run.episode, run.minutes) for run in runs}
    title = f"{config.net}, timing {config.timing}: mean over {len(config.eval_seeds)} held-out seeds, greedy final policies"
    console.show(tables.results_table(title, results, spent), tables.MINOR)
    last, net = config.algos[-1], f"NET={config.net}"
    played = net if config.timing == RunConfig.timing else f"{net} TIMING={config.timing}"
    verbs = ["ui", f"watch {played} CONTROLLER={last}", f'evaluate {played} CONTROLLER="{last} max_pressure"', f"compare {net}"]
    verbs += [f"report {net}", f"explain {played} RUN={last}"]
    console.say("\n".join([f"\nlearning curve: {curve}", "next:", *(f"  make {verb}" for verb in verbs)]))


def _log_evaluation(tracker: Tracker, run: TrainingRun, results: Results, levels: dict[str, float]) -> None:
    rows = results[run.label]
    means = {f"eval/{key}": float(np.mean([f[key] for f in rows])) for key in rows[0] if key != "seed"}
    means["eval/median_delay"] = float(np.median([f["delay"] for f in rows]))
    step = int(run.history[-1]["steps"])
    if tracker.logged_until(run.mlflow_id, "eval/delay") < step:
        tracker.log(run.mlflow_id, means, step)
    write_results(run.folder / EVALUATION, run.config.eval_task(), {run.label: rows})
    (run.folder / "config.json").write_text(json.dumps(as_dict(run.config), indent=1))
    tables.learning_curve(run.folder / "learning_curve.png", {run.label: run.history}, levels, f"{run.config.net}: {run.label}")
    for name in (CHECKPOINT, EVALUATION, "config.json", "learning_curve.png"):
        tracker.artifact(run.mlflow_id, run.folder / name)
    _log_policy_model(tracker, run)
    uses = f'mlflow.pyfunc.load_model("runs:/{run.mlflow_id}/policy").predict({{"obs": obs, "avail": avail}})'
    beside = {name: results[name] for name in results if name in (run.label, *levels)}
    tracker.describe(run.mlflow_id, f"{tables.markdown(beside)}\n\nThe policy in another program: `{uses}`")


def _log_policy_model(tracker: Tracker, run: TrainingRun) -> None:
    """Keep the policy for other programs."""
    spec = run.algorithm.spec
    path = run.folder / "policy.pt"
    deploy.save(path, run.policy(), spec)
    obs, avail = (-1, spec.n_agents, spec.obs_dim), (-1, spec.n_agents, spec.n_actions)
    tensors = {"obs": ("float32", obs), "avail": ("bool", avail), "action": ("int64", avail[:2])}
    tracker.model(run.mlflow_id, "policy", deploy.__name__, path, tensors)
