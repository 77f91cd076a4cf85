"""A training run: one algorithm with one seed on one network or several, and its checkpoint."""

import copy
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from tsc_marl.config import RunConfig
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.sim import fingerprint
from tsc_marl.tracking import checkpoint, start
from tsc_marl.tracking.checkpoint import Checkpoint
from tsc_marl.tracking.curves import Metrics
from tsc_marl.tracking.run_folder import RunFolder, TrainingFolder
from tsc_marl.tracking.tensor_file import first_not_finite
from tsc_marl.training.learner import Learner, learners
from tsc_marl.types import Spec

logger = logging.getLogger(__name__)
LARGEST = 1e9
"""Size of a weight that no training needs: in products of a few of them, float32 overflows."""


class TrainingRun:
    """One algorithm with one seed; it continues from the checkpoint in its folder, if there is one.

    Args:
        config: its settings.
        spec: sizes of the network; of several, of the first.
        folder: its files.
        others: sizes of the further networks.

    Raises:
        UserError: when that checkpoint is of another training, or when the algorithm cannot learn on these networks together.
    """

    def __init__(self, config: RunConfig[Any], spec: Spec, folder: TrainingFolder, others: Sequence[Spec] = ()) -> None:
        self.config, self.experiment, self.folder = config, config.experiment, folder
        self.tasks = {task.network: task for task in self.experiment.tasks()}
        self.fingerprints = {
            name: fingerprint.of_training(task.scenario, task.sim.detection_m) for name, task in self.tasks.items()
        }
        torch.manual_seed(config.seed)
        made = learners(config.algorithm, config.algo, [spec, *others])
        self.learners: dict[str, Learner] = dict(zip(self.tasks, made, strict=True))
        self.episode = 0
        self.history: list[dict[str, float]] = []
        self.metrics = Metrics()
        self.ended_ms: int | None = None
        self.mlflow_id = self.before = ""
        if folder.checkpoint.exists():
            self._load(checkpoint.load(folder.checkpoint))
        elif self.experiment.start_from:
            kept = start.Start(self.experiment.start_from, RunFolder(folder.path.parent).start)
            kept.check_digest(self.experiment.start_digest)
            self.before = kept.saved.origin
            logger.info(f"{self.label} {kept.give(self.learner.algorithm, next(iter(self.tasks.values())))}")
        self.stage_checkpoint()

    @property
    def learner(self) -> Learner:
        """The learner of the first network: the weights, and all that acting needs, are those of every network."""
        return next(iter(self.learners.values()))

    @property
    def _further(self) -> dict[str, Learner]:
        return dict(list(self.learners.items())[1:])

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
        further = {name: learner.state() | {"fingerprint": self.fingerprints[name]} for name, learner in self._further.items()}
        replay = self.learner.replay
        staged = Checkpoint(
            **self._settings(), training=copy.deepcopy(self.learner.algorithm.training_state()), episode=self.episode,
            history=list(self.history), mlflow_id=self.mlflow_id, fingerprint=self.fingerprints[self.experiment.network[0]],
            replay=replay and replay.state(), others=further, before=self.before, metrics=self.metrics.state(),
        )  # fmt: skip
        self._staged = staged if self.episode < self.experiment.all_episodes else _without_replay(staged)

    def save(self) -> None:
        """Write the staged state as the checkpoint.

        Raises:
            UserError: when the disk does not take it.
        """
        checkpoint.save(self._staged, self.folder.checkpoint)

    def check_finite(self, networks: Iterable[str] = ()) -> None:
        """Refuse weights that are nan, infinite or beyond `LARGEST`; the staged state is still that before the update.

        Args:
            networks: those whose state is checked too, beside the weights; by default the first.

        Raises:
            UserError: with the first of them.
        """
        weights = self.learner.algorithm.named_parameters()
        huge = (name for name, weight in weights if weight.numel() and weight.detach().abs().max() > LARGEST)
        checked = [self.learners[name] for name in networks] or [self.learner]
        damaged = (first_not_finite(learner.algorithm.state_dict()) for learner in checked)
        name = next(filter(None, damaged), None) or next(huge, None)
        if name:
            raise UserError(
                f"the training of {self.label} diverged after {self.episode} episodes: weights {name} are not finite, or beyond "
                f"{LARGEST:.0e}; the checkpoint holds the last good ones; train anew with a smaller learning rate (--algo.lr)"
            )

    def snapshot(self) -> None:
        """Write the staged policy to a file that stays; a training cannot continue from it."""
        checkpoint.save(replace(_without_replay(self._staged), metrics={}), self.folder.snapshot(self.episode))

    def _settings(self) -> dict[str, Any]:
        """Return the settings that a checkpoint and this run must share."""
        config, shared = self.config, self.experiment
        return {
            "network": shared.network[0], "algorithm": config.algorithm, "seed": config.seed, "sim": asdict(shared.sim),
            "timing": asdict(shared.timing), "config": asdict(config.algo),
            "observation_version": shared.sim.observation_version,
        }  # fmt: skip

    def _load(self, saved: Checkpoint) -> None:
        path = self.folder.checkpoint
        for key, here in self._settings().items():
            if getattr(saved, key) != here:
                raise UserError(f"checkpoint {path} has {key} {getattr(saved, key)}, this run {here}; remove it to start anew")
        if saved.networks != list(self.tasks):
            here, there = " ".join(self.tasks), " ".join(saved.networks)
            raise UserError(f"checkpoint {path} has networks {there}, this run {here}; remove it to start anew")
        self._check_fingerprint(saved)
        episodes = self.experiment.all_episodes
        if saved.episode > episodes:
            raise UserError(f"checkpoint {path} has {saved.episode} episodes, this run {episodes}; remove it to start anew")
        replay = self.learner.replay
        empty = not any([saved.replay, *(other["replay"] for other in saved.others.values())])
        if replay is not None and empty and 0 < saved.episode < episodes:
            raise UserError(f"checkpoint {path} has no replay, as a snapshot; a training cannot go on from it: remove it")
        try:
            self.learner.algorithm.load_training_state(saved.training)
            if replay is not None:
                replay.load(saved.replay)
            for name, learner in self._further.items():
                learner.load(saved.others[name])
        except (RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"checkpoint {path} does not fit this version ({reason}); remove it to start anew") from None
        self.history, self.episode, self.mlflow_id, self.before = saved.history, saved.episode, saved.mlflow_id, saved.before
        self.metrics = Metrics(saved.metrics)
        for learner in self.learners.values():
            learner.first = self.episode == 0

    def _check_fingerprint(self, saved: Checkpoint) -> None:
        """Refuse to go on with other signals or files; a checkpoint of an earlier version does not say which it had."""
        if not saved.fingerprint:
            logger.warning(f"note: {self.label} began with an earlier version, so nobody knows whether its files were the same")
            self.fingerprints = {name: {} for name in self.fingerprints}
            return
        for name, here in self.fingerprints.items():
            before = saved.others.get(name, vars(saved))["fingerprint"]
            if differences := fingerprint.training_differences(before, here):
                raise UserError(
                    f"{self.folder.checkpoint} was made with other files of {name}: "
                    f"{fingerprint.shortened(differences)}; put them back, or train anew"
                )


def _without_replay(state: Checkpoint) -> Checkpoint:
    return replace(state, replay=None, others={name: other | {"replay": None} for name, other in state.others.items()})
