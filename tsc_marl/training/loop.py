"""Training loop: collect, learn, log, save; then evaluate."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from tsc_marl import console
from tsc_marl.algos.base import OffPolicyConfig
from tsc_marl.config import ExperimentConfig, RunConfig, command_line, parse
from tsc_marl.console import make_line
from tsc_marl.errors import UserError, unknown
from tsc_marl.evaluation import notes
from tsc_marl.paths import file_name, refused_by_system, temporary_folder
from tsc_marl.rollout import interrupts
from tsc_marl.rollout.cluster.pool import open_pool
from tsc_marl.rollout.pool import Pool, WorkerDiedError
from tsc_marl.rollout.task import Task, check_task
from tsc_marl.sim import fingerprint
from tsc_marl.sim.scenario import TOGETHER
from tsc_marl.tracking import curves
from tsc_marl.tracking.run_folder import RunFolder, runs
from tsc_marl.tracking.start import Start
from tsc_marl.tracking.store import Tracker
from tsc_marl.training import settings
from tsc_marl.training.final_evaluation import evaluate_and_report, keep_without_evaluation
from tsc_marl.training.iteration import newest_delays, train_iteration
from tsc_marl.training.learner import learners
from tsc_marl.training.replay import check_memory
from tsc_marl.training.run import TrainingRun
from tsc_marl.types import Spec

logger = logging.getLogger(__name__)
SHOWN = 4
"""Most networks whose delays stand beside the progress bar; of more, the mean does."""


def train(argv: list[str]) -> Path:
    """Train and evaluate by the words of a command line; `--resume` continues an earlier run.

    torch uses one thread: the order of its sums depends on the number of threads.

    Args:
        argv: options of the verb `train`, in their names of today.

    Returns the folder of the run.

    Raises:
        UserError: for an invalid option, and when the store or the disk cannot be used.
        WorkerDiedError: when simulations die repeatedly; the checkpoint is saved.
    """
    torch.set_num_threads(1)
    experiment, folder = parse(argv), None
    if experiment.resume:
        experiment, folder = _resumed(experiment, argv)
    tasks = experiment.tasks()
    _check(tasks)
    for stressed in experiment.strongest_tasks():
        check_task(stressed)
    tracker = Tracker(experiment.network_name)
    with contextlib.ExitStack() as held:
        if folder is not None:
            held.enter_context(run_lock(folder))
        pool = held.enter_context(open_pool(experiment.workers, experiment.concurrent_episodes, experiment.cluster))
        specs = _read_specs(pool, tasks)
        for config in experiment.runs:  # refused before there is a folder
            if isinstance(config.algo, OffPolicyConfig):
                check_memory(config.algorithm, config.algo, specs, [task.decisions for task in tasks])
            if len(specs) > 1:
                learners(config.algorithm, config.algo, specs)
        if folder is None:
            folder = _new_folder(argv, experiment)
            held.enter_context(run_lock(folder))
        _train_all(pool, tracker, experiment, specs, folder)
    return folder.path


def _check(tasks: Sequence[Task]) -> None:
    """Read the files of the networks, and show notes on their signals."""
    several = len(tasks) > 1
    with console.progress("networks", len(tasks), unit="network") if several else contextlib.nullcontext() as progress:
        for task in tasks:
            for note in check_task(task):
                logger.info(f"{task.network}: {note}" if several else note)
            if progress is not None:
                progress.advance()


def _read_specs(pool: Pool, tasks: Sequence[Task]) -> list[Spec]:
    """Return the sizes of the networks."""
    if len(tasks) == 1:
        return [pool.read_spec(tasks[0])]
    logger.info(f"reading the sizes of {len(tasks)} networks")
    with console.progress("sizes", len(tasks), unit="network") as progress:
        return pool.read_specs(tasks, progress.advance)


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


def _train_all(pool: Pool, tracker: Tracker, experiment: ExperimentConfig, specs: Sequence[Spec], folder: RunFolder) -> None:
    parent = _parent(tracker, experiment, folder)
    trainings: list[TrainingRun] = []
    status = "FAILED"
    try:
        for config in experiment.runs:
            trainings.append(_open_run(tracker, config, specs, folder, parent))
            _learn(pool, tracker, trainings[-1])
            _check_kept(folder, trainings)
        if experiment.eval_seeds:
            evaluate_and_report(pool, tracker, trainings, folder, parent)
        else:
            keep_without_evaluation(tracker, trainings)
        _check_kept(folder, trainings)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        logger.warning(f"stopped; go on with: {make_line('train', RESUME=folder.name)}")
        raise
    except WorkerDiedError as error:
        line = make_line("train", RESUME=folder.name)
        raise WorkerDiedError(f"{error}; the checkpoint is saved, go on with: {line}") from None
    except UserError:
        _check_kept(folder, trainings)
        raise
    except OSError as error:
        _check_kept(folder, trainings)
        if error.errno is None:
            raise
        raise UserError(f"{refused_by_system(error)}: {make_line('train', RESUME=folder.name)}") from None
    finally:
        for run in trainings:
            tracker.end(run.mlflow_id, status, run.ended_ms)
        tracker.end(parent, status)
    if not tracker.lost:
        folder.finished.touch()
    else:
        line = make_line("train", RESUME=folder.name)
        logger.warning(f"{folder.name} is complete, but not in the tracking store; when that works again: {line}")


def _check_kept(folder: RunFolder, trainings: Sequence[TrainingRun]) -> None:
    """Refuse to go on when the folder of the run was removed: nobody could resume the run; save the states anew."""
    if folder.command.is_file():
        return
    for run in trainings:
        run.save()
    saved = ", ".join(str(run.folder.checkpoint) for run in trainings)
    lost = "its settings, snapshots and earlier files are lost"
    raise UserError(f"{folder.path} was removed while its run was going on: {lost}; the newest state is in {saved}")


def _new_folder(argv: Sequence[str], experiment: ExperimentConfig) -> RunFolder:
    networks = experiment.network_name.replace(TOGETHER, "_") if len(experiment.network) > 1 else experiment.network_name
    folder = RunFolder(runs() / file_name(f"{networks}-{datetime.now():%Y%m%d-%H%M%S}"))
    try:
        prepare(folder, argv, experiment)
    except FileExistsError:  # another training started in this second
        time.sleep(1)
        return _new_folder(argv, experiment)
    return folder


def prepare(folder: RunFolder, argv: Sequence[str], experiment: ExperimentConfig) -> None:
    """Make the folder of a new run with its command line and its settings, which `--resume` reads.

    Raises:
        FileExistsError: when the folder exists; a folder is complete or absent.
    """
    folder.path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.path.parent) as scratch:
        new = RunFolder(Path(scratch, "new"))
        new.path.mkdir()
        settings.write(new, argv, experiment)
        if experiment.start_from:
            Start.find(experiment.start_from, experiment.network[0]).keep(new.start, experiment.start_digest)
        try:
            new.path.rename(folder.path)
        except OSError as error:
            raise FileExistsError(folder.path) if folder.path.exists() else error from None


def _command(folder: RunFolder) -> str:
    return command_line("train", settings.read_command(folder))


def _resumed(command: ExperimentConfig, argv: list[str]) -> tuple[ExperimentConfig, RunFolder]:
    """Return the settings and the folder of an earlier run."""
    others = [word for word in argv if word.startswith("--") and word.split("=")[0] not in ("--resume", "--workers", "--cluster")]
    if others:
        raise UserError(f"--resume {command.resume} keeps the settings of that run; leave out {' '.join(others)}")
    folder = RunFolder.named(Path(command.resume or "").name)
    if not folder.command.is_file():
        raise unknown("run", folder.name, [path.name for path in runs().glob("*") if RunFolder(path).command.is_file()])
    settings.read_command(folder)
    return replace(settings.read(folder), workers=command.workers, cluster=command.cluster), folder


def _parent(tracker: Tracker, experiment: ExperimentConfig, folder: RunFolder) -> str:
    """Open the parent run in the store, or reopen that of a resumed run."""
    earlier = settings.read_parent_id(folder)
    if earlier and tracker.reopen(earlier):
        return earlier
    tags = {"kind": "comparison", "network": experiment.network_name, "folder": folder.name, "command": _command(folder)}
    tags |= _start_tags(experiment) | fingerprint.tags(*(task.scenario for task in experiment.tasks()))
    run_id = tracker.start(f"{' vs '.join(experiment.algos)} ({folder.name})", tags, experiment.as_dict())
    if run_id:
        settings.write_parent_id(folder, run_id)
    return run_id


def _start_tags(experiment: ExperimentConfig) -> dict[str, str]:
    return {"start_from": experiment.start_from, "start_digest": experiment.start_digest} if experiment.start_from else {}


def _open_run(tracker: Tracker, config: RunConfig[Any], specs: Sequence[Spec], folder: RunFolder, parent: str) -> TrainingRun:
    """Start a run, or continue it from its checkpoint."""
    name, seed, experiment = config.algorithm, config.seed, config.experiment
    run = TrainingRun(config, specs[0], folder.training(name, seed), specs[1:])
    if not (run.mlflow_id and tracker.reopen(run.mlflow_id)):
        tags = {
            "kind": "training", "network": experiment.network_name, "algorithm": name, "seed": str(seed),
            "timing": experiment.timing_preset, "folder": folder.name, "command": _command(folder),
        } | _start_tags(experiment) | fingerprint.tags(*(task.scenario for task in run.tasks.values()))  # fmt: skip
        if len(run.tasks) > 1:
            tags["networks"] = str(len(run.tasks))
        run_id = tracker.start(f"{name} seed {seed} ({folder.name})", tags, config.as_dict(), parent)
        run.mlflow_id = run_id or run.mlflow_id  # of a lost store that may come back
        run.stage_checkpoint()
    return run


def _learn(pool: Pool, tracker: Tracker, run: TrainingRun) -> None:
    """Train to the end; save a checkpoint even after an error, and a snapshot at each quarter of the way."""
    experiment = run.experiment
    times, note, logged = 0, "", tracker.logged_until(run.mlflow_id, curves.DELAY)
    kept = {row["episode"]: row for row in (*run.history, *run.metrics.rows())}
    for episode, row in kept.items():
        if episode > logged:  # the store was lost meanwhile, or the run deleted
            tracker.log(run.mlflow_id, curves.shown(row), int(episode))
    total, together = experiment.all_episodes, experiment.episodes_per_iteration
    quarters = {total * k // 4 // together * together for k in range(4)}
    try:
        with console.progress(run.label, total, run.episode) as progress, tracker.measured(run.mlflow_id):
            while run.episode < total:
                interrupts.check()
                _check_kept(RunFolder(run.folder.path.parent), [run])
                if run.episode in quarters:
                    run.snapshot()
                metrics = train_iteration(pool, run)
                run.stage_checkpoint()
                times += 1
                for row in metrics:
                    if not note and (note := notes.of_training(run.label, row)):
                        logger.warning(note)
                    if row["episode"] > logged:
                        tracker.log(run.mlflow_id, curves.shown(row), int(row["episode"]))
                progress.update(run.episode, _summary(newest_delays(run), metrics[-1]))
                if times % experiment.checkpoint_every == 0:
                    run.save()
    finally:
        run.ended_ms = int(time.time() * 1000)
        run.save()


def _summary(delays: Mapping[str, float], metrics: Mapping[str, float]) -> str:
    """Return what fits beside a progress bar: the newest delays of the networks, and metrics of an update."""
    explores = [f"{name} {metrics[f'policy/{name}']:.2f}" for name in ("entropy", "epsilon") if f"policy/{name}" in metrics][:1]
    if len(delays) == 1 or len(delays) > SHOWN:
        delays = {f"mean of {len(delays)}" if len(delays) > 1 else "": metrics["delay"]}
    return ", ".join([f"delay {', '.join(f'{name} {delay:.1f} s'.strip() for name, delay in delays.items())}", *explores])
