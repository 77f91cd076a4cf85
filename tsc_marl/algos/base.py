"""Settings of the families of algorithms, and the rows of a batch for the losses of the PPO family."""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsc_marl.bounds import Count, NaturalNumber, NonNegative, Positive, Share, Widths, check
from tsc_marl.nn import agent
from tsc_marl.types import Batch, Rows

PpoSettings = TypeVar("PpoSettings", bound="PpoConfig")


@dataclass(frozen=True)
class EpsilonConfig:
    """Settings of epsilon-greedy exploration."""

    epsilon_start: Share = 1.0
    """Share of random actions at the start."""
    epsilon_end: Share = 0.02
    """Share of random actions at the end."""
    exploration_fraction: Share = 0.5
    """Share of training over which epsilon falls (linear)."""

    def __post_init__(self) -> None:
        """Refuse values outside their bounds."""
        check(self, "algo.")

    def epsilon(self, progress: float) -> float:
        """Return the share of random actions when `progress` of training is done."""
        done = min(1.0, progress / self.exploration_fraction) if self.exploration_fraction else 1.0
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * done


@dataclass(frozen=True)
class OffPolicyConfig(EpsilonConfig):
    """Settings of the replay: which past episodes are kept, and how they are sampled."""

    replay_episodes: Count = 50
    """Episodes kept."""
    batch_size: Count = 64
    """Sequences of past episodes in one update."""
    sequence_length: Count = 4
    """Decisions in one sequence."""
    gradient_steps: Count = 100
    """Updates after each batch of new episodes."""


@dataclass(frozen=True)
class PpoConfig:
    """Settings of the PPO family."""

    lr: Positive = 1e-3
    """Learning rate of actor and critic (Adam)."""
    lr_final_fraction: Share = 0.1
    """Share of the learning rate that is left at the end of training (linear)."""
    gamma: Share = 0.98
    """Discount per decision."""
    gae_lambda: Share = 0.5
    """Lambda of the generalised advantage estimate. Traffic is noisy: 0.95 hides the effect of one agent among many."""
    rollout_length: NaturalNumber = 90
    """Decisions between two updates, about: an episode is cut into equal parts. 0: an update after whole episodes."""
    epochs: Count = 8
    """Passes over each batch."""
    num_minibatches: Count = 4
    """Gradient steps per pass."""
    clip_coef: Positive = 0.2
    """Clip radius of the policy ratio and of the value's move."""
    entropy_coef: NonNegative = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: Positive = 10.0
    """Largest norm of a gradient step, actor and critic each."""
    hidden: Widths = (64, 64)
    """Widths of the actor's hidden layers."""
    critic_hidden: Widths = (64, 64)
    """Widths of the critic's hidden layers."""
    sharing: agent.Sharing = "full"
    """Which agents share parameters: `full` (with a one-hot id of each where the observation is a vector), `full_no_id`, `none`,
    `seps` (learned clusters)."""
    recurrent: bool = False
    """Give the actor a memory (GRU); the critic has none."""
    bptt_length: Count = 10
    """Decisions through which gradients flow back in a recurrent actor."""
    adv_norm: Literal["batch", "agent", "none"] = "batch"
    """Normalise advantages over all agents, each agent alone, or not."""
    popart: bool = False
    """Rescale the value head whenever the normaliser moves, so that its predictions stay."""
    value_norm_decay: Share = 0.9
    """Share of the value normaliser's moments kept at each update."""

    def __post_init__(self) -> None:
        """Refuse values outside their bounds."""
        check(self, "algo.")


@dataclass(frozen=True)
class CriticEstimates:
    """Estimates of the critic for a batch, made before the value normaliser moves; in the reward's unit."""

    value: Float[Tensor, "T_1 B K"]
    """V of every row: one per agent (K = N), or one for all (K = 1)."""
    residual: Float[Tensor, "T B K"]
    """Estimated return less V."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """Further estimates of one algorithm."""


@dataclass(frozen=True)
class Minibatch(Rows):
    """Rows that the losses of the PPO family need.

    The first axes M are [T, B] in `prepare`: whole episodes. They are [L, M] in `fit`: M sequences of L decisions (L = 1
    without memory).
    """

    obs: Float[Tensor, "*M N F"]
    avail: Bool[Tensor, "*M N A"]
    state: Float[Tensor, "*M S"]
    action: Int[Tensor, "*M N"]
    logp: Float[Tensor, "*M N"]
    """Log-probability of the action under the policy that acted."""
    probs: Float[Tensor, "*M N A"]
    """Probabilities of all actions under the policy that acted."""
    active: Float[Tensor, "*M N"]
    """1 where the agent had a choice, else 0."""
    value: Float[Tensor, "*M K"]
    """Prediction of the critic before the update, normalised units."""
    target: Float[Tensor, "*M K"]
    """Target of the critic, normalised units."""
    raw_advantage: Float[Tensor, "*M N"]
    """Advantage before normalisation."""
    advantage: Float[Tensor, "*M N"]
    """Advantage of the policy's loss."""
    extras: dict[str, Tensor] = field(default_factory=dict)
    """Tensors of one algorithm, and `hidden` [*M, N, H] of a recurrent actor."""

    @staticmethod
    def of_batch(
        batch: Batch, value: Tensor, target: Tensor, raw_advantage: Tensor, advantage: Tensor, extras: dict[str, Tensor]
    ) -> "Minibatch":
        """Return the rows [T, B, ...] of a batch."""
        hidden = {"hidden": batch.extras["hidden"]} if "hidden" in batch.extras else {}
        return Minibatch(
            obs=batch.obs[:-1],
            avail=batch.avail[:-1],
            state=batch.state[:-1],
            action=batch.action,
            logp=batch.extras["logp"],
            probs=batch.extras["probs"],
            active=batch.has_choice.float(),
            value=value,
            target=target,
            raw_advantage=raw_advantage,
            advantage=advantage,
            extras=extras | hidden,
        )

    def with_extras(self, **extras: Tensor) -> "Minibatch":
        """Return the rows with further extras."""
        return replace(self, extras=self.extras | extras)

    def of_agent(self, i: int) -> "Minibatch":
        """Return the rows of agent i alone, its axis kept (N = 1); state, value and target stay whole."""
        whole = {"state": self.state, "value": self.value, "target": self.target}
        tensors = {name: value[:, :, i : i + 1] for name, value in vars(self).items() if name not in (*whole, "extras")}
        return Minibatch(**tensors, **whole, extras={name: value[:, :, i : i + 1] for name, value in self.extras.items()})
