"""Central types: the task, the episodes, the algorithm.

Axis legend, used in every annotation: T time, B episode, N agent (signal), A action (phase), F feature, S state,
M rows of a minibatch. `_1` means one more row: the true last observation, whose value is bootstrapped.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

Settings = TypeVar("Settings")
R = TypeVar("R", bound="Rows")


@dataclass(frozen=True, eq=False)
class Movements:
    """What the phases of N signals serve: L links and A phases at most, the rest is padding. Only the task has it, no weight."""

    __pydantic_config__: ClassVar[dict[str, bool]] = {"arbitrary_types_allowed": True}

    link: Float[Tensor, "N L K"]
    """Features of the links that never change."""
    real: Bool[Tensor, "N L"]
    serves: Int[Tensor, "N A L"]
    """2 where a phase gives a link a green that yields to nobody, 1 where it yields or passes after a stop, else 0."""
    phase_real: Bool[Tensor, "N A"]
    onward: Int[Tensor, "E 2"]
    """Pairs of links, numbered n L + l: vehicles of the first go on to the second."""
    link_columns: int
    """Columns of an observation for each link; those of all links come first."""
    phase_columns: int
    """Columns for each phase."""
    signal_columns: int
    """Columns for the signal, the last."""

    def of_agent(self, i: int) -> "Movements":
        """Return the links and phases of agent i alone."""
        rows = {name: getattr(self, name)[i : i + 1] for name in ("link", "real", "serves", "phase_real")}
        return replace(self, **rows, onward=self.onward[:0])


@dataclass(frozen=True)
class Spec:
    """Sizes of a task, and its agents."""

    network: str
    names: tuple[str, ...]
    """One name per agent."""
    n_actions: int
    """Actions of the agent with the most; the actions of the others are padded and masked."""
    obs_dim: int
    state_dim: int
    neighbours: tuple[tuple[int, ...], ...]
    """Per agent, the indices of its neighbours on the road graph."""
    movements: Movements | None = None
    """Links and phases, where the observation has columns for them."""

    @property
    def n_agents(self) -> int:
        return len(self.names)

    def of_agent(self, i: int) -> "Spec":
        """Return the task of agent i alone, with the sizes of the whole."""
        alone = None if self.movements is None else self.movements.of_agent(i)
        return replace(self, names=self.names[i : i + 1], neighbours=((),), movements=alone)

    def pairs(self, hops: int = 1) -> Int[Tensor, "P 2"]:
        """Return each agent with every agent from 1 to `hops` hops away on the road graph, in order."""
        pairs = [(i, k) for i in range(self.n_agents) for k in self._reached(i, hops)]
        return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)

    def _reached(self, start: int, hops: int) -> list[int]:
        reached, new = {start}, {start}
        for _ in range(hops):
            new = {k for i in new for k in self.neighbours[i]} - reached
            reached |= new
        return sorted(reached - {start})

    def per_agent(self, metrics: "dict[str, Tensor]") -> dict[str, float]:
        """Return metrics [N] of all agents as numbers, named `agent/<agent>/<metric>`."""
        return {
            f"agent/{agent}/{metric}": value
            for metric, values in metrics.items()
            for agent, value in zip(self.names, values.tolist(), strict=True)
        }


@dataclass(frozen=True)
class Rows:
    """Base of the dataclasses whose fields are tensors, or dicts of tensors."""

    def map(self: R, function: Callable[[Tensor], Tensor]) -> R:
        """Apply a function to every tensor."""

        def apply(value: Tensor | dict[str, Tensor]) -> Any:
            return {name: function(x) for name, x in value.items()} if isinstance(value, dict) else function(value)

        return replace(self, **{name: apply(value) for name, value in vars(self).items()})


@dataclass(frozen=True)
class Batch(Rows):
    """Episodes, or parts of them, of equal length, as they were executed."""

    obs: Float[Tensor, "T_1 B N F"]
    avail: Bool[Tensor, "T_1 B N A"]
    state: Float[Tensor, "T_1 B S"]
    action: Int[Tensor, "T B N"]
    reward: Float[Tensor, "T B N"]
    """Reward of each agent; the team's reward is their sum."""
    terminated: Bool[Tensor, "T B"]
    """The task ended after this decision: the value of the next row counts as 0."""
    truncated: Bool[Tensor, "T B"]
    """The episode's time was over after this decision, or the rollout was cut: the value of the next row is bootstrapped."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """Extras of `Algorithm.act`, each [T, B, N, ...]."""

    @property
    def has_choice(self) -> Bool[Tensor, "T B N"]:
        """Where an agent had more than one legal action."""
        return self.avail[:-1].sum(-1) > 1

    @property
    def team_reward(self) -> Float[Tensor, "T B 1"]:
        """Sum of the agents' rewards."""
        return self.reward.sum(-1, keepdim=True)

    @property
    def initial_hidden(self) -> Tensor | None:
        """Hidden state of a recurrent policy at the first row [B, N, ...]; None for a policy without memory."""
        return self.extras["hidden"][0] if "hidden" in self.extras else None

    @staticmethod
    def join(episodes: "list[Batch]") -> "Batch":
        """Put episodes side by side along B."""
        extras = {name: torch.cat([e.extras[name] for e in episodes], dim=1) for name in episodes[0].extras}
        names = [name for name in vars(episodes[0]) if name != "extras"]
        return Batch(**{name: torch.cat([getattr(e, name) for e in episodes], dim=1) for name in names}, extras=extras)


def mean_metrics(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the steps that have it."""
    values: dict[str, list[float]] = {}
    for step in steps:
        for name, value in step.items():
            values.setdefault(name, []).append(value)
    return {name: sum(series) / len(series) for name, series in values.items()}


class Algorithm(nn.Module, abc.ABC, Generic[Settings]):
    """A learner and its policy. One file of `algos/` holds one subclass; `Algorithm[C]` has settings of type C."""

    Config: ClassVar[type]
    """Frozen dataclass of its settings; a subclass of OffPolicyConfig for an algorithm that learns from past episodes."""
    value_scope: Literal["own", "team", "utility"] = "own"
    """Meaning of `value_estimates`: return of the `own` agent, of the `team`, or a `utility` that only ranks phases."""

    def __init__(self, spec: Spec, config: Settings) -> None:
        super().__init__()
        self.spec, self.config = spec, config

    @abc.abstractmethod
    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Choose a legal action for every agent.

        Args:
            obs: observation of each agent.
            avail: legal actions of each agent.
            carry: state of the policy that the last call returned; None at the start of an episode.
            generator: source of random numbers for exploration; None acts greedily.

        Returns the actions, extras that `update` needs (each [B, N, ...]), and the next carry.
        """

    @abc.abstractmethod
    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch and return metrics.

        Args:
            batch: new episodes, whole or in part (on-policy); sequences of past episodes (off-policy, `replay.Replay.sample`).
            progress: share of training that is done, in [0, 1].
        """

    def on_new_episodes(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take in new episodes before `update` gets samples of the replay; return metrics. Off-policy algorithms only."""
        return {}

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the value and advantage estimates of one decision, in the reward's unit (a utility has no unit).

        Needs all weights. Estimates that the algorithm does not make are missing.

        Args:
            obs: observation of each agent.
            avail: legal actions of each agent.
            state: state of the whole network.
            carry: state of the policy, as for `act`.

        Returns some of these tensors; of `own` and `others`, only differences between phases have a meaning.

        - `probs` [B, N, A]: the policy, with its exploration.
        - `value` [B, K]: the return of each agent (K = N) or of the team (K = 1).
        - `own` [B, N, A]: the advantage of each phase for the return that the agent learns from, see `value_scope`.
        - `others` [B, N, A]: the effect of each phase on the returns of other agents.
        """
        return {}

    @abc.abstractmethod
    def policy_state(self) -> dict[str, Tensor]:
        """Return the part of `state_dict` that `act` needs; rollout workers get it."""

    def state_here(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a `state_dict` of another network with what can be carried over in the sizes of this one."""
        return state

    def training_state(self) -> dict[str, Any]:
        """Return the state that a resumed training needs: weights, optimisers, normalisers, random state."""
        optimisers = {name: value.state_dict() for name, value in vars(self).items() if isinstance(value, torch.optim.Optimizer)}
        return {"weights": self.state_dict(), "optimisers": optimisers, "torch_rng": torch.get_rng_state()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Restore the state that `training_state` returned."""
        self.load_state_dict(state["weights"])
        for name, value in state["optimisers"].items():
            getattr(self, name).load_state_dict(value)
        torch.set_rng_state(state["torch_rng"])
