"""Policies: a trained one, or a classical controller. `start` begins an episode and returns the driver of its signals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from tsc_marl import algos, controllers
from tsc_marl.errors import UserError
from tsc_marl.plugins import blamed
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.sim import fingerprint, observations
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.road_network import RoadNetwork
from tsc_marl.sim.turning_counts import planning_context
from tsc_marl.types import Algorithm, Spec

ANY_NETWORK = "a policy for any network has --sim.observation movements and --algo.sharing full"
"""What a training needs for a policy that drives other networks than its own."""


def is_portable(observation: str, sharing: str) -> bool:
    """Return whether policies with an observation and a sharing of parameters drive any network.

    Columns mean the same everywhere, and all signals have the same weights. Weights of a network's size are refused by `fill`.

    Raises:
        UserError: when the observation is a user's own and cannot be imported.
    """
    return sharing in ("full", "full_no_id") and observations.find(observation).portable


class Driver(Protocol):
    """Chooses the phases of one episode, decision after decision."""

    @property
    def explores(self) -> bool:
        """Whether the driver samples its actions, for learning."""
        ...

    def decide(self) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Return the phases [N], and the tensors for learning, each [1, N, ...]."""
        ...

    def act(self) -> np.ndarray:
        """Return the phases [N]."""
        ...

    def reseed(self, seed: int) -> None:
        """Draw other random numbers from now on, where the policy draws any."""
        ...


@dataclass(frozen=True)
class ControllerPolicy:
    """A classical controller by its name."""

    name: str
    sim: ClassVar[SimConfig | None] = None
    """Controllers play with the observation and reward of the task."""

    def plays_under(self, disturbance: Disturbance) -> bool:
        """Return whether it uses detectors that can be disturbed so; those of SUMO's own programs can only be known to fail."""
        kind = controllers.find(self.name)
        has_fallback = kind.programs_without is not controllers.Controller.programs_without
        free = not (kind.sumo_controlled and disturbance.affects_detectors)
        return free or (has_fallback and disturbance.failures_are_known)

    def task_for(self, task: Task) -> Task:
        """Return the task with the observation and reward of this policy."""
        return task

    def without_weights(self) -> "ControllerPolicy":
        """Return itself: it has no weights."""
        return self

    def start(self, env: TrafficEnv, seed: int, generator: torch.Generator | None = None, **options: Any) -> "ControllerDriver":
        """Reset an environment in which no simulation runs, and return the driver; `options` are those of `reset`."""
        kind = controllers.find(self.name)
        with blamed("controller", self.name, kind):
            controller = kind(planning_context(env))
        with blamed("controller", self.name, kind):
            programs = controller.programs_without(env.failed_lanes(seed))
        env.reset(seed, sumo_controlled=controller.sumo_controlled, programs=programs, **options)
        return ControllerDriver(self.name, controller, env, seed)


@dataclass(frozen=True)
class TrainedPolicy:
    """An algorithm with its settings and weights."""

    name: str
    config: Any
    """Settings of the algorithm."""
    weights: dict[str, Tensor] | None
    """Weights by name; None in a message to a process that has them already."""
    sim: SimConfig | None = None
    """Observation and reward of the training; None for those of the task."""
    signals: fingerprint.Signals | None = None
    """The signals of the training (`fingerprint.of_signals`); None where unknown, as in files of earlier versions."""
    observation_version: int = 1
    """Of the training's observation."""
    samples: bool = False
    """Whether it samples its phases, as in training, where nobody asks to learn from them."""

    def plays_under(self, disturbance: Disturbance) -> bool:
        """Return True: every disturbance reaches what it observes."""
        return True

    def task_for(self, task: Task) -> Task:
        """Return the task with the observation and reward of this policy.

        Raises:
            UserError: when the policy learned with another version of the observation, or on other signals than the task has.
        """
        self.check_version()
        self.check_signals(task.net(), task.scenario.net)
        return replace(task, sim=self.sim or task.sim)

    @property
    def portable(self) -> bool:
        """Whether it drives any network, not only that of its training."""
        return self.sim is not None and is_portable(self.sim.observation, getattr(self.config, "sharing", ""))

    def check_network(self, learned: Sequence[str], network: str) -> None:
        """Refuse another network than that of the training, unless the policy is portable.

        Raises:
            UserError: with both.
        """
        if network not in learned and not self.portable:
            raise UserError(
                f"the policy of {self.name} was trained on {fingerprint.listed(learned)}, not {network}; use the same, or train "
                f"there ({ANY_NETWORK})"
            )

    def check_version(self) -> None:
        """Refuse to play with another version of the observation than that of the training.

        Raises:
            UserError: with both versions.
        """
        if self.sim is None:
            return
        here, own = self.sim.observation_version, self.observation_version
        if here != own:
            raise UserError(
                f"the policy of {self.name} learned with version {own} of observation {self.sim.observation}; "
                f"expected version {here}; train again"
            )

    def check_signals(self, net: RoadNetwork, path: Path) -> None:
        """Refuse other signals than those of the training, unless the policy is portable, or they are unknown.

        Args:
            net: the signals to drive.
            path: its file, for the message.

        Raises:
            UserError: with the differences.
        """
        if self.signals is None or self.portable:
            return
        parts = fingerprint.PARTS if self._uses_neighbours else fingerprint.PARTS[:-1]
        if differences := fingerprint.signal_differences(self.signals, fingerprint.of_signals(net), parts):
            raise UserError(
                f"the policy of {self.name} learned on other signals than {path} has: {fingerprint.shortened(differences)}; "
                f"put that file back, or train again ({ANY_NETWORK})"
            )

    @property
    def _uses_neighbours(self) -> bool:
        """Whether the algorithm uses the neighbours: ours have a setting of how far, a user's own may."""
        return ":" in self.name or hasattr(self.config, "hops")

    def without_weights(self) -> "TrainedPolicy":
        """Return the policy without weights, cheap to send."""
        return replace(self, weights=None)

    def algorithm(self, spec: Spec) -> Algorithm:
        """Return the algorithm with these weights; those that acting does not need may be missing.

        Raises:
            UserError: when the weights do not fit the network.
        """
        algorithm = algos.find(self.name)(spec, self.config)
        self.fill(algorithm)
        return algorithm

    def fill(self, algorithm: Algorithm) -> None:
        """Load these weights into an algorithm of the same settings; critics of another network's size keep their own."""
        weights = self._fitting(algorithm) if self.portable else self.weights or {}
        missing = sorted(algorithm.policy_state().keys() - weights.keys())
        try:
            algorithm.load_state_dict({} if missing else weights, strict=False)
        except RuntimeError as error:  # torch's way to say that a shape differs
            missing = [" ".join(str(error).split())]
        if missing:
            raise UserError(f"the weights of this {self.name} do not fit {algorithm.spec.network} ({missing[0]}); train again")

    def fits_wholly(self, algorithm: Algorithm) -> bool:
        """Return whether no weight is of another network's size, as those of some critics are."""
        return self._fitting(algorithm).keys() >= (self.weights or {}).keys()

    def _fitting(self, algorithm: Algorithm) -> dict[str, Tensor]:
        shapes = {name: own.shape for name, own in algorithm.state_dict().items()}
        weights = algorithm.state_here(self.weights or {})
        return {name: weight for name, weight in weights.items() if shapes.get(name) == weight.shape}

    def start(self, env: TrafficEnv, seed: int, generator: torch.Generator | None = None, **options: Any) -> "TrainedDriver":
        """Reset an environment in which no simulation runs, and return the driver.

        Args:
            env: to play in.
            seed: SUMO seed.
            generator: samples the actions to learn from; None acts greedily, or as the policy samples.
            options: of `TrafficEnv.reset`.
        """
        env.reset(seed, **options)
        return TrainedDriver(env, self, generator, torch.Generator().manual_seed(seed) if self.samples else None)


Policy = TrainedPolicy | ControllerPolicy


class ControllerDriver:
    """A classical controller in an episode.

    Attributes:
        controller: chooses the phases.
    """

    explores = False

    def __init__(self, name: str, controller: controllers.Controller, env: TrafficEnv, seed: int) -> None:
        self._name, self.controller, self._env = name, controller, env
        with blamed("controller", name, type(controller)):
            controller.reset(seed, env.view)

    def decide(self) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Return the phases [N]; there is nothing to learn."""
        return self.act(), {}

    def act(self) -> np.ndarray:
        """Return the phases [N]."""
        with blamed("controller", self._name, type(self.controller)):
            return self.controller.act(self._env.view)

    def reseed(self, seed: int) -> None:
        """Let the controller draw other random numbers from now on."""
        with blamed("controller", self._name, type(self.controller)):
            self.controller.reseed(seed)


class TrainedDriver:
    """A trained policy in an episode.

    Attributes:
        algorithm: with the policy's weights.
        carry: memory of the algorithm in this episode.
        explores: whether somebody learns from its actions.
    """

    def __init__(
        self,
        env: TrafficEnv,
        policy: TrainedPolicy,
        generator: torch.Generator | None = None,
        own_generator: torch.Generator | None = None,
    ) -> None:
        self._env, self._policy, self.explores, self._generator = env, policy, generator is not None, generator or own_generator
        self.algorithm, self.carry = policy.algorithm(spec_from_env(env)), None

    def follow(self, policy: TrainedPolicy) -> None:
        """Continue the episode with another policy."""
        if (policy.name, policy.config) == (self._policy.name, self._policy.config):
            policy.fill(self.algorithm)
        else:
            self.algorithm = policy.algorithm(self.algorithm.spec)
        self._policy = policy

    def value_estimates(self) -> dict[str, Tensor]:
        """Return the algorithm's estimates for this decision, as `Algorithm.value_estimates` does for B = 1.

        There are none on another network where the critic has the size of that of its training.
        """
        if self._policy.portable and not self._policy.fits_wholly(self.algorithm):
            return {}
        arrays = (self._env.obs, self._env.avail, self._env.state)
        obs, avail, state = (torch.from_numpy(array)[None] for array in arrays)
        with torch.inference_mode():
            return self.algorithm.value_estimates(obs, avail, state, self.carry)

    def decide(self) -> tuple[np.ndarray, dict[str, Tensor]]:
        """Return the phases [N], and the tensors for learning, each [1, N, ...]."""
        obs, avail = torch.from_numpy(self._env.obs), torch.from_numpy(self._env.avail)
        with torch.inference_mode():
            action, extras, self.carry = self.algorithm.act(obs[None], avail[None], self.carry, self._generator)
        return action[0].numpy(), extras

    def act(self) -> np.ndarray:
        """Return the phases [N]."""
        return self.decide()[0]

    def reseed(self, seed: int) -> None:
        """Sample the actions with other random numbers from now on."""
        if self._generator is not None:
            self._generator.manual_seed(seed)
