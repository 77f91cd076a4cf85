"""One algorithm with one seed: as it stands, its checkpoint, and how it goes on."""

import copy
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsc_marl import algos
from tsc_marl.config import RunConfig, train_seed
from tsc_marl.errors import UserError
from tsc_marl.evaluation.evaluate import CHECKPOINT, FORMAT, load_checkpoint
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.types import Job, Policy, RolloutResult
from tsc_marl.training.replay import learn, replay_of, rollout_length
from tsc_marl.types import Batch, Spec, mean_metrics

SNAPSHOTS = "snapshots"
"""Folder of a run's earlier policies, `<episodes played>.pt`."""


class TrainingRun:
    """One algorithm with one seed; it starts where the checkpoint in its folder stands, if there is one.

    Raises:
        UserError: when that checkpoint is of another training.
    """

    def __init__(self, config: RunConfig[Any], name: str, seed: int, spec: Spec, folder: Path) -> None:
        self.config, self.name, self.seed, self.folder = config, name, seed, folder
        torch.manual_seed(seed)
        self.algorithm = algos.find(name)(spec, config.algo)
        self.replay = replay_of(self.algorithm)
        self.episode = 0
        self.history: list[dict[str, float]] = []
        self.mlflow_id = ""
        if (folder / CHECKPOINT).exists():
            self._load(folder / CHECKPOINT)
        self.stage_checkpoint()

    @property
    def minutes(self) -> float:
        return self.history[-1]["minutes"] if self.history else 0.0

    @property
    def label(self) -> str:
        return self.name if len(self.config.seeds) == 1 else f"{self.name} s{self.seed}"

    def policy(self) -> Policy:
        """Return a copy of the policy as it is now."""
        weights = {key: value.detach().clone() for key, value in self.algorithm.policy_state().items()}
        return Policy(self.name, self.config.algo, weights)

    def stage_checkpoint(self) -> None:
        """Keep the state as it is now for `save`: an update that is cut short is never saved.

        A finished training needs no replay any more.
        """
        past = self.replay.state() if self.replay is not None and self.episode < self.config.episodes else None
        self._staged = {
            "format": FORMAT, "network": self.config.network, "algorithm": self.name, "seed": self.seed,
            "sim": asdict(self.config.sim), "signal": asdict(self.config.timing), "config": asdict(self.config.algo),
            "training": copy.deepcopy(self.algorithm.training_state()), "episode": self.episode,
            "history": list(self.history), "mlflow_id": self.mlflow_id, "replay": past,
        }  # fmt: skip

    def save(self) -> None:
        """Write the marked state as the checkpoint; a crash in the middle leaves the last one whole.

        Raises:
            UserError: when the disk does not take it.
        """
        self._write(self._staged, self.folder / CHECKPOINT)

    def snapshot(self) -> None:
        """Keep the policy of the marked state for good: a checkpoint to look at, not to go on from."""
        self._write(self._staged | {"replay": None}, self.folder / SNAPSHOTS / f"{self.episode:06d}.pt")

    def _write(self, content: dict[str, Any], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        try:
            torch.save(content, new)
        except (OSError, RuntimeError) as error:  # RuntimeError is torch's way to say that a disk is full
            new.unlink(missing_ok=True)
            left = "the last one is whole" if path.exists() else "there is none yet"
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"checkpoint {path} cannot be written ({reason}); {left}; free some disk space and resume") from None
        os.replace(new, path)

    def _load(self, path: Path) -> None:
        config, saved = self.config, load_checkpoint(path)
        expected = {
            "network": config.network, "algorithm": self.name, "seed": self.seed, "sim": asdict(config.sim),
            "signal": asdict(config.timing), "config": asdict(config.algo),
        }  # fmt: skip
        for key, value in expected.items():
            if saved[key] != value:
                raise UserError(f"checkpoint {path} has {key} {saved[key]}, this run {value}; remove it to start anew")
        try:
            self.algorithm.load_training_state(saved["training"])
        except (RuntimeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"checkpoint {path} does not fit this version ({error}); remove it to start anew") from None
        self.history, self.episode, self.mlflow_id = saved["history"], saved["episode"], saved["mlflow_id"]
        if self.replay is not None:
            self.replay.load(saved["replay"])


def train_iteration(pool: Pool, run: TrainingRun) -> dict[str, float]:
    """Play a few episodes side by side and learn from them, once or after each of their rollouts."""
    start, config = time.monotonic(), run.config
    progress, learning = run.episode / config.episodes, 0.0
    length = rollout_length(run.algorithm, progress)
    rollouts: list[list[RolloutResult]] = []
    metrics: list[dict[str, float]] = []
    policies: list[Policy] = []
    while not (rollouts and rollouts[-1][0].metrics):
        policy = run.policy()
        rollouts.append(_play(pool, run, policy, length, tuple(policies)))
        policies.append(policy)
        collected = time.monotonic()
        batch = Batch.join([part.batch for part in rollouts[-1] if part.batch is not None])
        metrics.append(learn(run.algorithm, run.replay, batch, progress))
        learning += time.monotonic() - collected
    return _account(run, rollouts, time.monotonic() - start, learning) | mean_metrics(metrics)


def _play(pool: Pool, run: TrainingRun, policy: Policy, length: int, earlier: tuple[Policy, ...]) -> list[RolloutResult]:
    """Return the next rollout of each episode that is played now."""
    task = run.config.task()
    numbers = range(run.episode, run.episode + run.config.episodes_per_update)
    seeds = {n: train_seed(run.seed, n) for n in numbers}
    jobs = [
        Job(n, task, policy, seed, explore_seed=seed, rollout_length=length, previous_policies=earlier)
        for n, seed in seeds.items()
    ]
    return sorted(pool.run(jobs), key=lambda episode: episode.job.episode)


def _account(run: TrainingRun, rollouts: list[list[RolloutResult]], took: float, learning: float) -> dict[str, float]:
    """Add the episodes that were just played to the run's history; return their figures."""
    last, parts = rollouts[-1], [part for rollout in rollouts for part in rollout]
    run.episode += len(last)
    before = run.history[-1] if run.history else {"steps": 0.0, "minutes": 0.0}
    figures = {f"traffic/{key}": float(np.mean([e.metrics[key] for e in last])) for key in last[0].metrics}
    reward = np.sum([part.reward for part in parts], axis=0) / len(last)
    steps = sum(len(part.batch.reward) for part in parts if part.batch is not None)
    run.history.append({
        "episode": float(run.episode), "delay": figures["traffic/delay"], "reward": float(reward.sum()),
        "steps": before["steps"] + steps, "minutes": before["minutes"] + took / 60,
    })  # fmt: skip
    seconds = {f"seconds/{key}": sum(part.seconds[key] for part in parts) / len(last) for key in parts[0].seconds}
    seconds |= {"seconds/learning": learning / len(last), "seconds/total": took / len(last)}
    return run.history[-1] | figures | seconds | run.algorithm.spec.per_agent({"reward": torch.from_numpy(reward)})
