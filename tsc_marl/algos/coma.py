r"""COMA (Foerster et al. 2018, arXiv 1705.08926): policy gradient with a counterfactual baseline.

A^i = Q(s, u) - sum_a pi^i(a) Q(s, (u^-i, a)) on the team's reward. The critic Q(s, o^i, u^-i, .) learns TD(lambda) targets
of a target network. No action follows the last row: the others' probabilities replace their actions, and the own action
is averaged over the policy.

Q is the sum of a value and an advantage. The advantage net does not see the state s, which has many features: it would
overfit the noise of the team's return. A policy without memory sees only o^i, so E[A^i | o^i, u] gives the same gradient.
The advantage starts at zero, in the unit of the TD errors: it is far smaller than the return. The policy gradient is plain,
one pass over each batch with the old critic. The policy is a mixture with uniform legal actions, by a share epsilon that
falls (the paper's appendix): without it the gradient of a deterministic policy vanishes.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tsc_marl import ops
from tsc_marl.algos.base import EpsilonConfig, Minibatch, PpoConfig
from tsc_marl.algos.ippo import Ippo
from tsc_marl.bounds import Count, PositiveShare, Share
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, critics
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.nn.sharing import polyak_update, target_copy
from tsc_marl.types import Batch, Spec


@dataclass(frozen=True)
class ComaConfig(PpoConfig, EpsilonConfig):
    """Settings of COMA."""

    gae_lambda: Share = 0.8
    """Lambda of the critic's TD(lambda) targets."""
    critic_epochs: Count = 8
    """Passes of the critic over each batch, after the actor's."""
    epochs: Count = 1
    """Passes of the actor over each batch: its loss has no ratio that would allow more than one."""
    epsilon_start: Share = 0.5
    """Share of random actions in the policy at the start."""
    polyak: PositiveShare = 1.0
    """Share by which the target critic moves at each batch. Smaller shares misled the policy for long."""

    def __post_init__(self) -> None:
        """Refuse several epochs, and PopArt."""
        super().__post_init__()
        if self.epochs != 1:
            raise UserError(f"algo.epochs must be 1, the loss has no ratio to correct for a moved policy; got {self.epochs}")
        if self.popart:
            raise UserError("algo.popart True rescales a value; the critic of coma has none, it has one output per action")


class ComaCritic(nn.Module):
    """Q(s, o^i, u^-i, .) = V(s, o^i, u^-i) + an advantage of each action (arXiv 1511.06581) that sees o^i and u^-i."""

    def __init__(self, spec: Spec, config: ComaConfig) -> None:
        super().__init__()
        n, size_in = spec.n_agents, spec.obs_dim + spec.n_agents * spec.n_actions
        self.value = critics.CentralNet(n, size_in, spec.state_dim, config.critic_hidden, 1, config.sharing, 1.0)
        self.added = agent.AgentNet(n, size_in, config.critic_hidden, spec.n_actions, config.sharing, 0.0)

    def forward(self, inputs: Float[Tensor, "*M N I"], state: Float[Tensor, "*M S"], unit: Tensor) -> Float[Tensor, "*M N A"]:
        """Return Q [*M, N, A] in normalised units; `inputs` are o^i and u^-i, `unit` is the unit of the advantage."""
        added = self.added(inputs)
        return self.value(inputs, state) + unit * (added - added.mean(-1, keepdim=True))


class Coma(Ippo[ComaConfig]):
    """Actor-critic with a counterfactual baseline."""

    value_scope = "team"
    learns_together = False
    Config = ComaConfig
    independent_softmax = False
    epsilon: Tensor

    def __init__(self, spec: Spec, config: ComaConfig) -> None:
        super().__init__(spec, config)
        self.target_critic = target_copy(self.critic)
        self.residual = ValueNorm(config.value_norm_decay)
        self.register_buffer("epsilon", torch.tensor(config.epsilon_start))

    def build_critic(self) -> ComaCritic:
        """Return Q(s, o^i, u^-i, .)."""
        return ComaCritic(self.spec, self.config)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from the batch, then move the target critic and lower epsilon."""
        metrics = super().update(batch, progress)
        polyak_update(self.target_critic, self.critic, self.config.polyak)
        self.epsilon.fill_(self.config.epsilon(progress))
        return metrics | {"policy/epsilon": float(self.epsilon)}

    def policy_log_probs(self, logits: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
        """Return log pi^i(.|o^i), the mixture of softmax and uniform legal actions."""
        return ops.epsilon_soft(ops.log_policy(logits, avail), avail, self.epsilon)

    def policy_state(self) -> dict[str, Tensor]:
        """Return the actor's weights and epsilon."""
        return super().policy_state() | {"epsilon": self.epsilon}

    def q(
        self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"], joint: Float[Tensor, "*M N A"]
    ) -> Float[Tensor, "*M N A"]:
        """Return Q of each own action beside the others' in `joint`, normalised units; the own entry of `joint` is masked."""
        n = self.spec.n_agents
        others = joint.unsqueeze(-3) * (1 - torch.eye(n)).unsqueeze(-1)
        return critic(torch.cat([obs, others.flatten(-2)], dim=-1), state, self.residual.deviation / self.returns.deviation)

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy and its counterfactual advantages, given the others' mean actions."""
        probs = self.policy_log_probs(self.actor.unroll(obs.unsqueeze(0), carry)[0][0], avail).exp()
        return {
            "probs": probs,
            "own": ops.centre_under_policy(self.q(self.critic, obs, state, probs), probs) * self.returns.deviation,
        }

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Minibatch, dict[str, float]]:
        """Return the rows [T, B, ...] for the losses, and metrics; `cut` makes the advantages."""
        config, done = self.config, (batch.terminated, batch.truncated)
        last = self.policy_log_probs(self.actor.unroll(batch.obs, batch.initial_hidden)[0][-1:], batch.avail[-1:]).exp()
        joint = torch.cat([one_hot(batch.action, self.spec.n_actions).float(), last])
        played = (joint * self.returns.restore(self.q(self.target_critic, batch.obs, batch.state, joint))).sum(-1)
        team = batch.team_reward.expand_as(batch.reward)
        target = ops.td_lambda(team, played, *done, config.gamma, config.gae_lambda)
        self.returns.update(target)
        self.residual.update(target - played[:-1])
        none_yet = torch.zeros_like(target)
        value, target_normalised = self.returns.normalise(played[:-1]), self.returns.normalise(target)
        rows = Minibatch.of_batch(batch, value, target_normalised, none_yet, none_yet, {})
        return rows, {"value/mean": float(target.mean())}

    def cut(self, rows: Minibatch) -> Minibatch:
        """Cut rows [T, B, ...] to sequences [L, M, ...], with the critic's advantages."""
        rows = super().cut(rows)
        raw = self.counterfactual(rows)
        return replace(rows, raw_advantage=raw, advantage=self.normalise_advantages(raw, rows.active.bool()))

    def fit(self, rows: Minibatch) -> list[dict[str, float]]:
        """Improve the policy by the critic's advantages, then the critic."""
        logged = [self.step_policy(self.log_policy(some), some, self.actor) for some in self.minibatches(rows)]
        return logged + [self.step_critic(some) for _ in range(self.config.critic_epochs) for some in self.minibatches(rows)]

    @torch.no_grad()
    def counterfactual(self, rows: Minibatch) -> Float[Tensor, "L M N"]:
        """Return A^i: in the return's unit with `adv_norm none`, else in normalised units."""
        joint = one_hot(rows.action, self.spec.n_actions).float()
        q = self.q(self.critic, rows.obs, rows.state, joint)
        advantage = ops.gather_actions(ops.centre_under_policy(q, rows.probs), rows.action)
        return advantage * self.returns.deviation if self.config.adv_norm == "none" else advantage

    def critic_loss(self, rows: Minibatch) -> Tensor:
        """Return the mean squared error of the taken actions' Q."""
        joint = one_hot(rows.action, self.spec.n_actions).float()
        guess = ops.gather_actions(self.q(self.critic, rows.obs, rows.state, joint), rows.action)
        return ((guess - rows.target) ** 2).mean()

    def policy_loss(self, logp: Float[Tensor, "L M N"], rows: Minibatch) -> Tensor:
        """Return the plain policy gradient's loss."""
        return -ops.masked_mean(rows.advantage * logp, rows.active)
