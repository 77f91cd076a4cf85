"""A training run: one algorithm with one seed, its checkpoint, and one iteration of its training."""

import copy
import logging
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from tsc_marl import algos
from tsc_marl.config import RunConfig
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.types import Job, RolloutResult
from tsc_marl.sim import fingerprint, seeds
from tsc_marl.tracking import checkpoint, start
from tsc_marl.tracking.checkpoint import Checkpoint
from tsc_marl.tracking.run_folder import RunFolder, TrainingFolder
from tsc_marl.tracking.tensor_file import first_not_finite
from tsc_marl.training.learner import Learner
from tsc_marl.types import Batch, Spec, mean_metrics

logger = logging.getLogger(__name__)
LARGEST = 1e9
"""Size of a weight that no training needs: in products of a few of them, float32 overflows."""


class TrainingRun:
    """One algorithm with one seed; it continues from the checkpoint in its folder, if there is one.

    Raises:
        UserError: when that checkpoint is of another training.
    """

    def __init__(self, config: RunConfig[Any], spec: Spec, folder: TrainingFolder) -> None:
        self.config, self.experiment, self.folder = config, config.experiment, folder
        self.task = self.experiment.task()
        self.fingerprint = fingerprint.of_training(self.task.scenario, self.task.sim.detection_m)
        torch.manual_seed(config.seed)
        self.learner = Learner(algos.find(config.algorithm)(spec, config.algo))
        self.episode = 0
        self.history: list[dict[str, float]] = []
        self.mlflow_id = ""
        if folder.checkpoint.exists():
            self._load(checkpoint.load(folder.checkpoint))
        elif self.experiment.start_from:
            kept = start.Start(self.experiment.start_from, RunFolder(folder.path.parent).start)
            kept.check_digest(self.experiment.start_digest)
            logger.info(f"{self.label} {kept.give(self.learner.algorithm, self.task)}")
        self.stage_checkpoint()

    @property
    def minutes(self) -> float:
        return self.history[-1]["minutes"] if self.history else 0.0

    @property
    def label(self) -> str:
        """Name among the trainings of the command."""
        name, seed = self.config.algorithm, self.config.seed
        return name if len(self.experiment.seeds) == 1 else f"{name} s{seed}"

    def policy(self) -> TrainedPolicy:
        """Return a copy of the present policy."""
        weights = {key: value.detach().clone() for key, value in self.learner.algorithm.policy_state().items()}
        return TrainedPolicy(self.config.algorithm, self.config.algo, weights)

    def stage_checkpoint(self) -> None:
        """Keep the present state for `save`, so that an interrupted update is never saved.

        A finished training needs no replay any more.
        """
        replay = self.learner.replay
        self._staged = Checkpoint(
            **self._settings(), training=copy.deepcopy(self.learner.algorithm.training_state()), episode=self.episode,
            history=list(self.history), mlflow_id=self.mlflow_id, fingerprint=self.fingerprint,
            replay=replay.state() if replay is not None and self.episode < self.experiment.episodes else None,
        )  # fmt: skip

    def save(self) -> None:
        """Write the staged state as the checkpoint.

        Raises:
            UserError: when the disk does not take it.
        """
        checkpoint.save(self._staged, self.folder.checkpoint)

    def check_finite(self) -> None:
        """Refuse weights that are nan, infinite or beyond `LARGEST`; the staged state is still that before the update.

        Raises:
            UserError: with the first of them.
        """
        algorithm = self.learner.algorithm
        huge = (name for name, weight in algorithm.named_parameters() if weight.numel() and weight.detach().abs().max() > LARGEST)
        name = first_not_finite(algorithm.state_dict()) or next(huge, None)
        if name:
            raise UserError(
                f"the training of {self.label} diverged after {self.episode} episodes: weights {name} are not finite, or beyond "
                f"{LARGEST:.0e}; the checkpoint holds the last good ones; train anew with a smaller learning rate (--algo.lr)"
            )

    def snapshot(self) -> None:
        """Write the staged policy to a file that stays; a training cannot continue from it."""
        checkpoint.save(replace(self._staged, replay=None), self.folder.snapshot(self.episode))

    def _settings(self) -> dict[str, Any]:
        """Return the settings that a checkpoint and this run must share."""
        config, shared = self.config, self.experiment
        return {
            "network": shared.network, "algorithm": config.algorithm, "seed": config.seed, "sim": asdict(shared.sim),
            "timing": asdict(shared.timing), "config": asdict(config.algo),
            "observation_version": shared.sim.observation_version,
        }  # fmt: skip

    def _load(self, saved: Checkpoint) -> None:
        path = self.folder.checkpoint
        for key, here in self._settings().items():
            if getattr(saved, key) != here:
                raise UserError(f"checkpoint {path} has {key} {getattr(saved, key)}, this run {here}; remove it to start anew")
        self._check_fingerprint(saved)
        episodes = self.experiment.episodes
        if saved.episode > episodes:
            raise UserError(f"checkpoint {path} has {saved.episode} episodes, this run {episodes}; remove it to start anew")
        replay = self.learner.replay
        if replay is not None and saved.replay is None and 0 < saved.episode < episodes:
            raise UserError(f"checkpoint {path} has no replay, as a snapshot; a training cannot go on from it: remove it")
        self._check_fingerprint(saved)
        try:
            self.learner.algorithm.load_training_state(saved.training)
            if replay is not None:
                replay.load(saved.replay)
        except (RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"checkpoint {path} does not fit this version ({reason}); remove it to start anew") from None
        self.history, self.episode, self.mlflow_id = saved.history, saved.episode, saved.mlflow_id
        self.learner.first = self.episode == 0

    def _check_fingerprint(self, saved: Checkpoint) -> None:
        """Refuse to go on with other signals or files; a checkpoint of an earlier version does not say which it had."""
        if not saved.fingerprint:
            logger.warning(f"note: {self.label} began with an earlier version, so nobody knows whether its files were the same")
            self.fingerprint = {}
            return
        if differences := fingerprint.training_differences(saved.fingerprint, self.fingerprint):
            raise UserError(
                f"{self.folder.checkpoint} was made with other files of {self.experiment.network}: "
                f"{fingerprint.shortened(differences)}; put them back, or train anew"
            )


def train_iteration(pool: Pool, run: TrainingRun) -> dict[str, float]:
    """Play a few episodes side by side and learn from them, once or after each of their rollouts."""
    start = time.monotonic()
    progress, learning = run.episode / run.experiment.episodes, 0.0
    length = run.learner.rollout_length
    rollouts: list[list[RolloutResult]] = []
    metrics: list[dict[str, float]] = []
    policies: list[TrainedPolicy] = []
    while not (rollouts and rollouts[-1][0].finished):
        policy = run.policy()
        rollouts.append(_play(pool, run, policy, length, tuple(policies)))
        policies.append(policy)
        collected = time.monotonic()
        batch = Batch.join([part.batch for part in rollouts[-1] if part.batch is not None])
        metrics.append(_learn(run, batch, progress))
        learning += time.monotonic() - collected
    return _account(run, rollouts, time.monotonic() - start, learning) | mean_metrics(metrics)


def _learn(run: TrainingRun, batch: Batch, progress: float) -> dict[str, float]:
    """Learn from a batch, and refuse to go on with weights that are not finite."""
    try:
        metrics = run.learner.learn(batch, progress)
    except (ValueError, RuntimeError):  # torch refuses to sample from a policy that is not finite
        run.check_finite()
        raise
    run.check_finite()
    return metrics


def _play(
    pool: Pool, run: TrainingRun, policy: TrainedPolicy, length: int, earlier: tuple[TrainedPolicy, ...]
) -> list[RolloutResult]:
    """Return the next rollout of each episode of the iteration."""
    numbers = range(run.episode, run.episode + run.experiment.episodes_per_update)
    sumo_seeds = {n: seeds.train_seed(run.config.seed, n) for n in numbers}
    tasks = {n: run.experiment.episode_task(run.task, seed) for n, seed in sumo_seeds.items()}
    jam_start = run.experiment.jam_start
    tasks |= {n: jam_start.apply(tasks[n], seed) for n, seed in sumo_seeds.items() if n != run.episode}
    jobs = [
        Job(n, tasks[n], policy, seed, explore_seed=seed, rollout_length=length, previous_policies=earlier)
        for n, seed in sumo_seeds.items()
    ]
    return sorted(pool.run(jobs), key=lambda result: result.job.episode)


def _account(run: TrainingRun, rollouts: list[list[RolloutResult]], took_s: float, learning_s: float) -> dict[str, float]:
    """Add the episodes of the iteration to the run's history; return their metrics, those that start from a jam apart."""
    parts = [part for rollout in rollouts for part in rollout]
    last, jammed = ([part for part in rollouts[-1] if part.starts_jammed == jam] for jam in (False, True))
    run.episode += len(last) + len(jammed)
    before = run.history[-1] if run.history else {"steps": 0.0, "minutes": 0.0}
    episodes = [result.metrics for result in last if result.metrics is not None]
    traffic = {f"traffic/{key}": float(np.mean([episode[key] for episode in episodes])) for key in episodes[0].values}
    reward = np.sum([part.reward for part in parts if not part.starts_jammed], axis=0) / len(last)
    steps = sum(len(part.batch.reward) for part in parts if part.batch is not None)
    run.history.append({
        "episode": float(run.episode), "delay": traffic["traffic/delay"], "reward": float(reward.sum()),
        "steps": before["steps"] + steps, "minutes": before["minutes"] + took_s / 60,
    })  # fmt: skip
    played = len(rollouts[-1])
    seconds = {f"seconds/{key}": sum(part.seconds[key] for part in parts) / played for key in parts[0].seconds}
    seconds |= {"seconds/learning": learning_s / played, "seconds/total": took_s / played}
    delays = [part.metrics["delay"] for part in jammed if part.metrics is not None]
    from_jams = {"jam_start/episodes": float(len(delays)), "jam_start/delay": float(np.mean(delays))} if delays else {}
    per_agent = run.learner.algorithm.spec.per_agent({"reward": torch.from_numpy(reward)})
    return run.history[-1] | traffic | seconds | from_jams | per_agent
