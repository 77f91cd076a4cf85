"""One algorithm with one seed, as it stands, and its checkpoint."""

import copy
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tsc_marl import algos
from tsc_marl.config import RunConfig
from tsc_marl.errors import UserError
from tsc_marl.evaluate import CHECKPOINT, FORMAT, load_checkpoint, policy_of
from tsc_marl.replay import replay_of
from tsc_marl.rollout.job import Policy
from tsc_marl.types import Spec

SNAPSHOTS = "snapshots"
"""Folder of a run's earlier policies, `<episodes played>.pt`."""


class Run:
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
        self.mark()

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

    def mark(self) -> None:
        """Keep the state as it is now for `save`: an update that is cut short is never saved.

        A finished training needs no replay any more.
        """
        past = self.replay.state() if self.replay is not None and self.episode < self.config.episodes else None
        self._whole = {
            "format": FORMAT, "network": self.config.net, "algorithm": self.name, "seed": self.seed,
            "sim": asdict(self.config.sim), "signal": asdict(self.config.signal), "config": asdict(self.config.algo),
            "training": copy.deepcopy(self.algorithm.training_state()), "episode": self.episode,
            "history": list(self.history), "mlflow_id": self.mlflow_id, "replay": past,
        }  # fmt: skip

    def save(self) -> None:
        """Write the marked state as the checkpoint; a crash in the middle leaves the last one whole.

        Raises:
            UserError: when the disk does not take it.
        """
        self._write(self._whole, self.folder / CHECKPOINT)

    def snapshot(self) -> None:
        """Keep the policy of the marked state for good: a checkpoint to look at, not to go on from."""
        self._write(self._whole | {"replay": None}, self.folder / SNAPSHOTS / f"{self.episode:06d}.pt")

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
        expected = {"algorithm": self.name, "seed": self.seed, "signal": asdict(config.signal), "config": asdict(config.algo)}
        for key, value in expected.items():
            if saved[key] != value:
                raise UserError(f"checkpoint {path} has {key} {saved[key]}, this run {value}; remove it to start anew")
        policy_of(saved, config.task())
        try:
            self.algorithm.load_training_state(saved["training"])
        except (RuntimeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"checkpoint {path} does not fit this version ({error}); remove it to start anew") from None
        self.history, self.episode, self.mlflow_id = saved["history"], saved["episode"], saved["mlflow_id"]
        if self.replay is not None:
            self.replay.load(saved["replay"])
