"""IQL (Tan 1993; Tampuu et al. 2017, arXiv 1511.08779): each agent learns Q^i(o^i, a) from its own reward.

y^i = r^i + gamma (1 - terminated) Qbar^i(o'^i, argmax_a Q^i(o'^i, a)), double Q-learning (arXiv 1509.06461) with a target
network. Q is normalised by the running mean and deviation of its targets. The policy is epsilon-greedy over the legal actions.
"""

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import OffPolicyConfig
from tsc_marl.bounds import MaybeCount, MaybePositiveShare, Positive, Share, Widths
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, nets
from tsc_marl.nn.adam import Adam
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.nn.sharing import polyak_update, target_copy
from tsc_marl.types import Algorithm, Batch, Spec

QSettings = TypeVar("QSettings", bound="QConfig")


@dataclass(frozen=True)
class QConfig(OffPolicyConfig):
    """Settings of the Q-learners."""

    lr: Positive = 1e-3
    """Learning rate (Adam)."""
    gamma: Share = 0.98
    """Discount per decision."""
    max_grad_norm: Positive = 10.0
    """Largest norm of a gradient step."""
    hidden: Widths = (64, 64)
    """Widths of the hidden layers."""
    sharing: agent.Sharing = "full"
    """Which agents share parameters: `full` (with a one-hot id), `full_no_id`, `none`, `seps` (learned clusters)."""
    recurrent: bool = False
    """Give the agents a memory (GRU)."""
    polyak: MaybePositiveShare = 0.01
    """Share by which the target network moves at each update."""
    target_update_interval: MaybeCount = None
    """Updates between two copies to the target network; needs `polyak None`."""
    value_norm_decay: Share = 0.999
    """Share of the target normaliser's moments kept at each update."""

    def __post_init__(self) -> None:
        """Refuse two ways to move the target network, and none."""
        super().__post_init__()
        if (self.polyak is None) == (self.target_update_interval is None):
            raise UserError(
                f"the target moves in exactly one way; got algo.polyak {self.polyak} and algo.target_update_interval "
                f"{self.target_update_interval}, set one of them to None"
            )


class Iql(Algorithm[QSettings]):
    """Independent Q-learning."""

    Config = QConfig
    epsilon: Tensor
    updates_done: Tensor

    def __init__(self, spec: Spec, config: QSettings) -> None:
        super().__init__(spec, config)
        self.actor = nets.agent_net(spec, config.hidden, config.sharing, 0.01, 0, 1, config.recurrent)
        self.mixer = self.build_mixer()
        self.target_actor, self.target_mixer = target_copy(self.actor), target_copy(self.mixer)
        self.optimiser = Adam([*self.actor.parameters(), *self.mixer.parameters()], lr=config.lr, eps=1e-5)
        self.returns = ValueNorm(config.value_norm_decay)
        self.register_buffer("epsilon", torch.tensor(config.epsilon_start))
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.long))

    def build_mixer(self) -> nn.Module:
        """Return the mixing network, which computes Q_tot from the agents' Q. IQL has none."""
        return nn.Module()

    def mix(self, mixer: nn.Module, q: Float[Tensor, "T B N"], batch: Batch, rows: slice) -> Float[Tensor, "T B K"]:
        """Return Q_tot of the chosen actions' Q in some rows of a batch, normalised units; IQL learns each agent's Q alone."""
        return q

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B K"]:
        """Return the rewards [T, B, K] whose discounted sums Q predicts: r^i."""
        return batch.reward

    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Take the best legal action, or while exploring any legal one with probability epsilon."""
        q, after = self.actor.unroll(obs.unsqueeze(0), carry)
        action = ops.mask_illegal(q[0], avail).argmax(-1)
        if generator is None:
            return action, {}, after
        action = ops.epsilon_greedy(action, avail, self.epsilon, generator)
        return action, {} if after is None else {"hidden": torch.zeros_like(after) if carry is None else carry}, after

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return Q^i(o^i, a) - max_b Q^i(o^i, b) over the legal b, and the epsilon-greedy policy."""
        q = self.actor.unroll(obs.unsqueeze(0), carry)[0][0]
        best = ops.mask_illegal(q, avail).max(-1, keepdim=True).values
        share = self.epsilon * avail / avail.sum(-1, keepdim=True)
        return {"probs": share + (1 - self.epsilon) * ((q == best) & avail), "own": (q - best) * self.returns.deviation}

    def policy_state(self) -> dict[str, Tensor]:
        """Return the agents' networks and epsilon."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("actor.") or name == "epsilon"}

    def on_new_episodes(self, batch: Batch, progress: float) -> dict[str, float]:
        """Set epsilon for this progress of training."""
        self.epsilon.fill_(self.config.epsilon(progress))
        return {"policy/epsilon": float(self.epsilon)}

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Take one gradient step and move the target network."""
        loss, metrics = self.loss(batch)
        self.optimiser.zero_grad()
        loss.backward()
        parameters = [*self.actor.parameters(), *self.mixer.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.max_grad_norm)
        self.optimiser.step()
        self.updates_done += 1
        every = self.config.target_update_interval
        if every is None or int(self.updates_done) % every == 0:
            share = 1.0 if self.config.polyak is None else self.config.polyak
            polyak_update(self.target_actor, self.actor, share)
            polyak_update(self.target_mixer, self.mixer, share)
        return metrics | {"loss/q": loss.item(), "grad_norm/q": float(norm)}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the mean squared TD error in normalised units, and metrics."""
        q, greedy, later = self.utilities(batch)
        predicted = self.mix(self.mixer, ops.gather_actions(q[:-1], batch.action), batch, slice(0, -1))
        with torch.no_grad():
            value = self.returns.restore(self.mix(self.target_mixer, ops.gather_actions(later, greedy), batch, slice(1, None)))
            target, metrics = self.normalised_target(batch, value)
        return ((predicted - target) ** 2).mean(), metrics

    def utilities(self, batch: Batch) -> tuple[Float[Tensor, "T_1 B N A"], Int[Tensor, "T B N"], Float[Tensor, "T B N A"]]:
        """Return the agents' Q, and for the next rows their greedy legal actions and the target network's Q."""
        q = self.actor.unroll(batch.obs, batch.initial_hidden)[0]
        greedy = ops.mask_illegal(q[1:].detach(), batch.avail[1:]).argmax(-1)
        with torch.no_grad():
            later = self.target_actor.unroll(batch.obs, batch.initial_hidden)[0][1:]
        return q, greedy, later

    def normalised_target(self, batch: Batch, value: Float[Tensor, "T B K"]) -> tuple[Float[Tensor, "T B K"], dict[str, float]]:
        """Return y = r + gamma (1 - terminated) value of the next rows (raw), in normalised units, and metrics."""
        target = self.critic_reward(batch) + self.config.gamma * (~batch.terminated).float().unsqueeze(-1) * value
        self.returns.update(target)
        return self.returns.normalise(target), {"value/mean": float(target.mean()), "value/deviation": float(target.std())}
