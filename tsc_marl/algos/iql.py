"""IQL (Tan 1993; Tampuu et al. 2017, arXiv 1511.08779): each agent learns Q^i(o^i, a) from its own reward.

y^i = r^i + gamma (1 - terminated) Qbar^i(o'^i, argmax_a Q^i(o'^i, a)), double Q-learning (arXiv 1509.06461) with a target
network. The Q are predicted in units of their targets' running mean and deviation. Epsilon-greedy over the legal actions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import OffPolicyConfig
from tsc_marl.errors import UserError
from tsc_marl.nn import agent
from tsc_marl.types import Algorithm, Batch, Spec


@dataclass(frozen=True)
class QConfig(OffPolicyConfig):
    """Settings of the Q-learners."""

    lr: float = 1e-3
    """Learning rate (Adam)."""
    gamma: float = 0.98
    """Discount per decision."""
    max_grad_norm: float = 10.0
    """Largest norm of a gradient step."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""
    sharing: agent.Sharing = "full"
    """Which agents share parameters: `full` (with a one-hot id), `full_no_id`, `none`, `seps` (learned clusters)."""
    recurrent: bool = False
    """Give the agents a memory (GRU)."""
    polyak: float | None = 0.01
    """Share by which the target network moves at each update."""
    target_update_interval: int | None = None
    """Copy to the target network after so many updates instead; needs `polyak None`."""
    value_norm_decay: float = 0.999
    """Share of the target normaliser's moments kept at each update."""

    def __post_init__(self) -> None:
        """Refuse values outside their range, and other than one way to move the target."""
        super().__post_init__()
        for name in ("gamma", "value_norm_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"algo.{name} must lie in [0, 1]; got {getattr(self, name)}")
        for name in ("lr", "max_grad_norm", "polyak", "target_update_interval"):
            if getattr(self, name) is not None and not getattr(self, name) > 0:
                raise UserError(f"algo.{name} must be positive; got {getattr(self, name)}")
        if min(self.hidden, default=0) < 1:
            raise UserError(f"algo.hidden needs at least one layer, none narrower than 1; got {self.hidden}")
        if (self.polyak is None) == (self.target_update_interval is None):
            raise UserError(
                f"the target moves in exactly one way; got algo.polyak {self.polyak} and algo.target_update_interval "
                f"{self.target_update_interval}, set one of them to None"
            )


class Iql(Algorithm):
    """Independent Q-learning."""

    Config = QConfig
    epsilon: Tensor
    updates_done: Tensor

    def __init__(self, spec: Spec, config: QConfig) -> None:
        super().__init__(spec, config)
        self.config: QConfig = config
        sizes = (spec.n_agents, spec.obs_dim, config.hidden, spec.n_actions)
        self.actor = agent.AgentNet(*sizes, config.sharing, 0.01, config.recurrent)
        self.mixer = self.build_mixer()
        self.target_actor, self.target_mixer = agent.target_copy(self.actor), agent.target_copy(self.mixer)
        self.optimiser = torch.optim.Adam([*self.actor.parameters(), *self.mixer.parameters()], lr=config.lr, eps=1e-5)
        self.returns = agent.ValueNorm(config.value_norm_decay)
        self.register_buffer("epsilon", torch.tensor(config.epsilon_start))
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.long))

    def build_mixer(self) -> nn.Module:
        """Return what makes the predicted values of the agents' Q; here nothing, each is one by itself."""
        return nn.Module()

    def mix(self, joint: nn.Module, q: Float[Tensor, "T B N"], batch: Batch, rows: slice) -> Float[Tensor, "T B K"]:
        """Return the values that targets are made for, of the agents' Q of some actions in some rows; normalised units."""
        return q

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B K"]:
        """Return the rewards that they predict."""
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
        """Return what each phase adds to the best one's Q; the policy is greedy but for epsilon."""
        q = self.actor.unroll(obs.unsqueeze(0), carry)[0][0]
        best = ops.mask_illegal(q, avail).max(-1, keepdim=True).values
        share = self.epsilon * avail / avail.sum(-1, keepdim=True)
        return {"probs": share + (1 - self.epsilon) * ((q == best) & avail), "own": (q - best) * self.returns.deviation}

    def policy_state(self) -> dict[str, Tensor]:
        """Return the agents' networks and epsilon."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("actor.") or name == "epsilon"}

    def on_new_episodes(self, batch: Batch, progress: float) -> dict[str, float]:
        """Lower epsilon."""
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
            share = self.config.polyak if every is None else 1.0
            agent.polyak_update(self.target_actor, self.actor, share or 1.0)
            agent.polyak_update(self.target_mixer, self.mixer, share or 1.0)
        return metrics | {"loss/q": loss.item(), "grad_norm/q": float(norm)}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the mean squared TD error in normalised units, and metrics."""
        q, greedy, later = self.utilities(batch)
        guess = self.mix(self.mixer, ops.gather_actions(q[:-1], batch.action), batch, slice(0, -1))
        with torch.no_grad():
            value = self.returns.restore(self.mix(self.target_mixer, ops.gather_actions(later, greedy), batch, slice(1, None)))
            wanted, metrics = self.normalised_target(batch, value)
        return ((guess - wanted) ** 2).mean(), metrics

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
