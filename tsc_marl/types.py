"""The few central types.

Axis legend, used in every annotation: T time, B episode, N agent (signal), A action (phase), F feature, S state,
M rows of a minibatch. `_1` means one more row: the true last observation, whose value is bootstrapped.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Spec:
    """What an algorithm must know of its task."""

    network: str
    names: tuple[str, ...]
    """One name per agent."""
    n_actions: int
    """Of the agent with the most; the others are padded and masked."""
    obs_dim: int
    state_dim: int
    neighbours: tuple[tuple[int, ...], ...]
    """Per agent, the numbers of its neighbours on the road graph."""

    @property
    def n_agents(self) -> int:
        return len(self.names)

    def per_agent(self, figures: "dict[str, Tensor]") -> dict[str, float]:
        """Return figures [N] as metrics, `agent/<name>/<figure>`."""
        return {
            f"agent/{a}/{figure}": x
            for figure, values in figures.items()
            for a, x in zip(self.names, values.tolist(), strict=True)
        }


@dataclass(frozen=True)
class Batch:
    """Episodes, or parts of them, of equal length, as they were executed."""

    obs: Float[Tensor, "T_1 B N F"]
    avail: Bool[Tensor, "T_1 B N A"]
    state: Float[Tensor, "T_1 B S"]
    action: Int[Tensor, "T B N"]
    reward: Float[Tensor, "T B N"]
    """Always per agent; the team's reward is the sum over N."""
    terminated: Bool[Tensor, "T B"]
    """The task ended here: nothing follows, value 0."""
    truncated: Bool[Tensor, "T B"]
    """The clock ended the episode here, or our watching it: the next row's value counts."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """What `act` returned beside the action, each [T, B, N, ...]."""

    @property
    def initial_hidden(self) -> Tensor | None:
        """What a recurrent policy remembered at the first row [B, N, ...], None of one without memory."""
        return self.extras["hidden"][0] if "hidden" in self.extras else None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a function to every tensor."""
        extras = {name: function(value) for name, value in self.extras.items()}
        return Batch(**{name: function(value) for name, value in vars(self).items() if name != "extras"}, extras=extras)

    @staticmethod
    def join(episodes: "list[Batch]") -> "Batch":
        """Put episodes side by side along B."""
        extras = {name: torch.cat([e.extras[name] for e in episodes], dim=1) for name in episodes[0].extras}
        names = [name for name in vars(episodes[0]) if name != "extras"]
        return Batch(**{name: torch.cat([getattr(e, name) for e in episodes], dim=1) for name in names}, extras=extras)


def mean_metrics(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric over the steps that have it."""
    names = {name: None for step in steps for name in step}
    return {name: sum(found) / len(found) for name in names if (found := [step[name] for step in steps if name in step])}


class Algorithm(nn.Module, abc.ABC):
    """A learner and its policy. One file of `algos/` holds one subclass."""

    Config: ClassVar[type]
    """Frozen dataclass of its settings; derived from OffPolicyConfig when it learns from past episodes."""
    value_scope: Literal["own", "team", "utility"] = "own"
    """What `appraise` speaks of: each agent's own return, the team's, or a `utility` without unit that only ranks phases."""

    def __init__(self, spec: Spec, config: Any) -> None:
        super().__init__()
        self.spec, self.config = spec, config

    @abc.abstractmethod
    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Choose a legal action for every agent.

        Args:
            obs: what each agent sees.
            avail: what each may choose.
            carry: what the last call returned, None at the start of an episode.
            generator: explore with this; None acts greedily.

        Returns the actions, what `update` wants back (each [B, N, ...]), and the next carry.
        """

    @abc.abstractmethod
    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from a batch; `progress` in [0, 1] is the share of training that is done. Returns metrics.

        On-policy: episodes or parts of them, just played. Off-policy: cuts of past episodes (`replay.Replay.sample`).
        """

    def on_new_episodes(self, batch: Batch, progress: float) -> dict[str, float]:
        """Look at new episodes before `update` gets samples of all; only off-policy algorithms are asked. Returns metrics."""
        return {}

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return what it thinks of a moment, in the reward's unit but for a utility; what it has no opinion on is missing.

        Needs all weights.

        Args:
            obs: what each agent sees.
            avail: what each may choose.
            state: of the whole network.
            carry: as `act` gets it.

        Returns some of: `probs` [B, N, A], the policy that explores; `value` [B, K], the return that each agent learns from
        (K = N), or all (K = 1); `own` [B, N, A], what each phase adds to the return that the agent learns from (see `about`);
        `others` [B, N, A], what it adds to the other agents' returns. Only differences between phases mean something.
        """
        return {}

    @abc.abstractmethod
    def policy_state(self) -> dict[str, Tensor]:
        """Return the part of `state_dict` that `act` needs: what rollout workers get."""

    def training_state(self) -> dict[str, Any]:
        """Return everything that a resumed training needs: weights, optimisers, normalisers, random state."""
        optimisers = {name: value.state_dict() for name, value in vars(self).items() if isinstance(value, torch.optim.Optimizer)}
        return {"weights": self.state_dict(), "optimisers": optimisers, "torch_rng": torch.get_rng_state()}

    def load_training_state(self, state: dict[str, Any]) -> None:
        """Undo `training_state`."""
        self.load_state_dict(state["weights"])
        for name, value in state["optimisers"].items():
            getattr(self, name).load_state_dict(value)
        torch.set_rng_state(state["torch_rng"])
