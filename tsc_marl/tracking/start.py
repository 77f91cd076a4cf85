"""Weights that a training starts from: those of an earlier policy. Optimisers, normalisers and schedules are new."""

import hashlib
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tsc_marl import algos
from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.tracking import checkpoint
from tsc_marl.tracking.checkpoint import Checkpoint
from tsc_marl.tracking.policies import find_checkpoint
from tsc_marl.types import Algorithm

SAME = ("hidden", "sharing", "recurrent")
"""Settings of an algorithm that decide the shapes of its actor."""


@dataclass(frozen=True)
class Start:
    """A policy to start from.

    Attributes:
        name: what the user called it.
        path: its checkpoint.
    """

    name: str
    path: Path

    @staticmethod
    def find(name: str, network: str) -> "Start":
        """Return a policy by name, as `find_checkpoint` does, for a training on a network.

        Raises:
            UserError: when there is none, when its file is damaged, or when it drives its own network only.
        """
        start = Start(name, find_checkpoint(name, network))
        start.policy(network)
        return start

    @cached_property
    def saved(self) -> Checkpoint:
        """The content of the file."""
        return checkpoint.load(self.path)

    @cached_property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the file's sha256."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]

    @property
    def algorithm(self) -> str:
        return self.saved.algorithm

    def policy(self, network: str) -> TrainedPolicy:
        """Return the policy for a network."""
        policy = self.saved.policy(network)
        policy.check_version()
        return policy

    def settings(self, network: str, name: str) -> dict[str, Any]:
        """Return what a training with an algorithm takes from it, by the groups of the command line.

        These are observation and reward, and settings of the algorithm: all for the policy's own, the shapes for another.
        """
        policy = self.policy(network)
        return {"sim": asdict(policy.sim or SimConfig()), "algo": asdict(policy.config) if self._is_own(name) else self._shapes}

    @property
    def _shapes(self) -> dict[str, Any]:
        return {name: self.saved.config[name] for name in SAME if name in self.saved.config}

    def _is_own(self, name: str) -> bool:
        """Return whether the policy is of this algorithm; a variant is the same one with other settings."""
        return name.partition("-")[0] == self.algorithm.partition("-")[0]

    def check_algorithm(self, name: str) -> None:
        """Refuse an algorithm with another kind of actor.

        Raises:
            UserError: with those that fit.
        """
        if not self._is_own(name) and not self._has_same_actor(name):
            give = " ".join(other for other in algos.available() if self._has_same_actor(other)) or self.algorithm
            policy = f"start-from {self.name} is a policy of {self.algorithm}"
            raise UserError(f"{policy}; got algos {name} with another actor: give {give}")

    def _has_same_actor(self, name: str) -> bool:
        own, other = algos.find(self.algorithm), algos.find(name)
        if getattr(other, "build_actor", other) is not getattr(own, "build_actor", None):
            return False
        try:
            other.Config(**self._shapes)
        except (UserError, TypeError):
            return False
        return True

    def check_settings(self, config: Any, sim: SimConfig) -> None:
        """Refuse settings with which its actor has other inputs or widths.

        Raises:
            UserError: with the first of them.
        """
        pairs = [("sim.observation", self.saved.sim.get("observation"), sim.observation)]
        pairs += [(f"algo.{name}", self.saved.config.get(name), getattr(config, name, None)) for name in SAME]
        for setting, own, here in pairs:
            if own != here:
                raise UserError(f"start-from {self.name} has {setting} {own}; got {here}: leave {setting} out, or train anew")

    def keep(self, path: Path, digest: str) -> None:
        """Copy the file, so that a resumed training starts from the same weights.

        Raises:
            UserError: when it is another one by now.
        """
        self.check_digest(digest)
        shutil.copy(self.path, path)

    def check_digest(self, expected: str) -> None:
        """Refuse another file than that of the command.

        Raises:
            UserError: with both digests.
        """
        if self.digest != expected:
            raise UserError(f"{self.path} has sha256 {self.digest}…; expected {expected}…, the weights of start-from; train anew")

    def give(self, algorithm: Algorithm, task: Task) -> str:
        """Copy the weights into a new algorithm, and return what was taken, in one line.

        A part of the algorithm, such as the critic, is taken whole or not at all. Buffers, such as normalisers, stay new.

        Raises:
            UserError: when weights of the actor do not fit, or when the policy learned on other signals.
        """
        self.policy(task.network).task_for(task)
        given, own = algorithm.state_here(self.saved.training["weights"]), algorithm.state_dict()
        parameters = [name for name, _ in algorithm.named_parameters(remove_duplicate=False)]
        other = [name for name in parameters if name not in given or given[name].shape != own[name].shape]
        if misfits := [name for name in other if name in algorithm.policy_state()]:
            raise UserError(
                f"the weights of {self.name} do not fit ({misfits[0]} of shape {list(own[misfits[0]].shape)}); train anew"
            )
        new = {name.partition(".")[0] for name in other}
        taken = {name: given[name] for name in parameters if name.partition(".")[0] not in new}
        algorithm.load_state_dict(own | taken)
        parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in taken))
        return (
            f"starts from {self.name} ({self.saved.origin}): {parts} taken; all else, such as optimisers and normalisers, is new"
        )
