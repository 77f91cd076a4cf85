"""Settings that whole families of algorithms share."""

from dataclasses import dataclass
from math import inf
from typing import Literal

from tsc_marl.errors import UserError
from tsc_marl.nn import agent


@dataclass(frozen=True)
class EpsilonConfig:
    """How much is tried at random."""

    epsilon_start: float = 1.0
    """Share of random actions at the start."""
    epsilon_end: float = 0.02
    """Share of random actions that is left."""
    exploration_fraction: float = 0.5
    """Share of training over which epsilon falls (linear)."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for name in ("epsilon_start", "epsilon_end", "exploration_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"algo.{name} must lie in [0, 1]; got {getattr(self, name)}")

    def epsilon(self, progress: float) -> float:
        """Return the share of random actions when `progress` of training is done."""
        done = min(1.0, progress / self.exploration_fraction) if self.exploration_fraction else 1.0
        return self.epsilon_start + (self.epsilon_end - self.epsilon_start) * done


@dataclass(frozen=True)
class OffPolicyConfig(EpsilonConfig):
    """What the training loop keeps and draws for an algorithm that learns from past episodes (`replay`)."""

    replay_episodes: int = 50
    """Episodes kept."""
    batch_size: int = 64
    """Cuts of past episodes in one update."""
    sequence_length: int = 4
    """Decisions in one cut."""
    gradient_steps: int = 100
    """Updates after each batch of new episodes."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        for name in ("replay_episodes", "batch_size", "sequence_length", "gradient_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"algo.{name} must be at least 1; got {getattr(self, name)}")


@dataclass(frozen=True)
class PpoConfig:
    """Settings of the PPO family."""

    lr: float = 1e-3
    """Learning rate of actor and critic (Adam)."""
    lr_final_fraction: float = 0.1
    """Share of the learning rate that is left at the end of training (linear)."""
    gamma: float = 0.98
    """Discount per decision."""
    gae_lambda: float = 0.5
    """Lambda of the generalised advantage estimate. In traffic values are predicted well and returns are noisy: .95 hides
    what one of many agents changed."""
    rollout_length: int = 90
    """Decisions, about, of each episode in one batch: equal parts, after each of which the policy learns while the episode
    stands still. 0: the whole episode."""
    epochs: int = 8
    """Passes over each batch."""
    num_minibatches: int = 4
    """Gradient steps per pass."""
    clip_coef: float = 0.2
    """Clip radius of the policy ratio and of the value's move."""
    entropy_coef: float = 0.01
    """Weight of the entropy bonus."""
    max_grad_norm: float = 10.0
    """Largest norm of a gradient step, actor and critic each."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (64, 64)
    """Widths of the critic's hidden layers."""
    sharing: agent.Sharing = "full"
    """Which agents share parameters: `full` (with a one-hot id), `full_no_id`, `none`, `seps` (learned clusters)."""
    recurrent: bool = False
    """Give the actor a memory (GRU); the critic has none."""
    bptt_length: int = 10
    """Decisions through which gradients flow back in a recurrent actor."""
    adv_norm: Literal["batch", "agent", "none"] = "batch"
    """Normalise advantages over all agents, each agent alone, or not."""
    popart: bool = False
    """Rescale the value head whenever the normaliser moves, so that its predictions stay."""
    value_norm_decay: float = 0.9
    """Share of the value normaliser's moments kept at each update."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for name, low, high in (("gamma", 0, 1), ("gae_lambda", 0, 1), ("value_norm_decay", 0, 1), ("lr_final_fraction", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise UserError(f"algo.{name} must lie in [{low}, {high}]; got {getattr(self, name)}")
        for name in ("lr", "clip_coef", "max_grad_norm", "epochs", "num_minibatches", "bptt_length"):
            if not 0 < getattr(self, name) < inf:
                raise UserError(f"algo.{name} must be positive and finite; got {getattr(self, name)}")
        if self.rollout_length < 0:
            raise UserError(f"algo.rollout_length must be at least 1, or 0 for the whole episode; got {self.rollout_length}")
        if not self.entropy_coef >= 0:
            raise UserError(f"algo.entropy_coef must not be negative; got {self.entropy_coef}")
        for name in ("hidden", "critic_hidden"):
            widths = getattr(self, name)
            if min(widths, default=0) < 1:
                raise UserError(f"algo.{name} needs at least one layer, none narrower than 1; got {widths}")
