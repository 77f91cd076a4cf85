r"""COMA (Foerster et al. 2018, arXiv 1705.08926): what the agent's own action changed, the others' held fixed.

A^i = Q(s, u) - sum_a pi^i(a) Q(s, (u^-i, a)) on the team's reward; the critic Q(s, o^i, u^-i, .) learns TD(lambda) targets
of a slowly moving copy. The joint action after the last row is not played: there the others' probabilities stand in for
their actions, and the own action is averaged over the policy.

What an action adds is a net of its own that does not see the state: a policy without memory sees no more than o^i, so with
E[A^i | o^i, u] for A^i its gradient is the same, and from a thousand figures that matter little the net would learn the noise
of the team's return, which the policy then follows. It starts at zero and is predicted in the unit of the TD errors: it is
far smaller than the return. The policy gradient is plain, one pass over each batch with the critic as it was. The policy that
acts and learns is a mixture with one that draws any legal action, by a share epsilon that falls (the paper's appendix): nothing
else holds back a plain gradient that has put all on one action, and what has all is never seen to be wrong.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import one_hot

from tsc_marl import ops
from tsc_marl.algos.base import EpsilonConfig, PpoConfig
from tsc_marl.algos.ippo import Ippo, Rows
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, critics
from tsc_marl.types import Batch, Spec


@dataclass(frozen=True)
class ComaConfig(PpoConfig, EpsilonConfig):
    """Settings of COMA."""

    gae_lambda: float = 0.8
    """Lambda of the critic's TD(lambda) targets."""
    critic_epochs: int = 8
    """Passes of the critic over each batch, after the actor's."""
    epochs: int = 1
    """Passes of the actor over each batch: its loss has no ratio that would allow more than one."""
    epsilon_start: float = 0.5
    """Share of random actions in the policy at the start."""
    polyak: float = 1.0
    """Share by which the target critic moves at each batch. A slower one points the policy the wrong way for long."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        super().__post_init__()
        EpsilonConfig.__post_init__(self)
        if self.epochs != 1:
            raise UserError(f"algo.epochs must be 1, the loss has no ratio to correct for a moved policy; got {self.epochs}")
        if self.critic_epochs < 1:
            raise UserError(f"algo.critic_epochs must be at least 1; got {self.critic_epochs}")
        if not 0 < self.polyak <= 1:
            raise UserError(f"algo.polyak must lie in (0, 1]; got {self.polyak}")
        if self.popart:
            raise UserError("algo.popart True rescales a value; the critic of coma has none, it has one output per action")


class ComaCritic(nn.Module):
    """Q(s, o^i, u^-i, .) as a value of all of these and what each action adds to it (arXiv 1511.06581), of o^i and u^-i."""

    def __init__(self, spec: Spec, config: ComaConfig) -> None:
        super().__init__()
        n, seen = spec.n_agents, spec.obs_dim + spec.n_agents * spec.n_actions
        self.value = critics.CentralNet(n, seen, spec.state_dim, config.critic_hidden, 1, config.sharing, 1.0)
        self.added = agent.AgentNet(n, seen, config.critic_hidden, spec.n_actions, config.sharing, 0.0)

    def forward(self, seen: Float[Tensor, "*M N I"], state: Float[Tensor, "*M S"], unit: Tensor) -> Float[Tensor, "*M N A"]:
        """Return Q; `seen` is o^i and u^-i, `unit` that of what an action adds."""
        added = self.added(seen)
        return self.value(seen, state) + unit * (added - added.mean(-1, keepdim=True))


class Coma(Ippo):
    """Actor-critic with a counterfactual baseline."""

    value_scope = "team"
    Config = ComaConfig
    config: ComaConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    epsilon: Tensor

    def __init__(self, spec: Spec, config: ComaConfig) -> None:
        super().__init__(spec, config)
        self.target_critic = agent.target_copy(self.critic)
        self.residual = agent.ValueNorm(config.value_norm_decay)
        self.register_buffer("epsilon", torch.tensor(config.epsilon_start))

    def build_critic(self) -> ComaCritic:
        """Return Q(s, o^i, u^-i, .)."""
        return ComaCritic(self.spec, self.config)

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Learn from the batch, then move the target critic and lower epsilon."""
        metrics = super().update(batch, progress)
        agent.polyak_update(self.target_critic, self.critic, self.config.polyak)
        self.epsilon.fill_(self.config.epsilon(progress))
        return metrics | {"policy/epsilon": float(self.epsilon)}

    def policy_log_probs(self, logits: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
        """Return the log-probabilities of the mixture."""
        return ops.epsilon_soft(ops.log_policy(logits, avail), avail, self.epsilon)

    def policy_state(self) -> dict[str, Tensor]:
        """Return the actor's weights and epsilon."""
        return super().policy_state() | {"epsilon": self.epsilon}

    def q(
        self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"], joint: Float[Tensor, "*M N A"]
    ) -> Float[Tensor, "*M N A"]:
        """Return Q of each own action beside the others' in `joint`, normalised units; the own entry is not seen."""
        n = self.spec.n_agents
        others = joint.unsqueeze(-3) * (1 - torch.eye(n)).unsqueeze(-1)
        return critic(torch.cat([obs, others.flatten(-2)], dim=-1), state, self.residual.deviation / self.returns.deviation)

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy and its counterfactual advantages, the others acting as they do on average."""
        probs = self.policy_log_probs(self.actor.unroll(obs.unsqueeze(0), carry)[0][0], avail).exp()
        return {
            "probs": probs,
            "own": ops.centre_under_policy(self.q(self.critic, obs, state, probs), probs) * self.returns.deviation,
        }

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Rows, dict[str, float]]:
        """Return the tensors [T, B, ...] that the losses need, and metrics."""
        config, done = self.config, (batch.terminated, batch.truncated)
        last = self.policy_log_probs(self.actor.unroll(batch.obs, batch.initial_hidden)[0][-1:], batch.avail[-1:]).exp()
        joint = torch.cat([one_hot(batch.action, self.spec.n_actions).float(), last])
        played = (joint * self.returns.restore(self.q(self.target_critic, batch.obs, batch.state, joint))).sum(-1)
        team = batch.reward.sum(-1, keepdim=True).expand_as(batch.reward)
        target = ops.td_lambda(team, played, *done, config.gamma, config.gae_lambda)
        self.returns.update(target)
        self.residual.update(target - played[:-1])
        rows = {
            "obs": batch.obs[:-1], "avail": batch.avail[:-1], "state": batch.state[:-1], "action": batch.action,
            "logp": batch.extras["logp"], "probs": batch.extras["probs"], "active": (batch.avail[:-1].sum(-1) > 1).float(),
            "target": self.returns.normalise(target),
        }  # fmt: skip
        return rows | ({"hidden": batch.extras["hidden"]} if config.recurrent else {}), {"value/mean": float(target.mean())}

    def fit(self, rows: Rows) -> list[dict[str, float]]:
        """Improve the policy by the critic's advantages, then the critic."""
        rows |= self.normalise_advantages(self.counterfactual(rows), rows)
        logged = [self.step_policy(self.log_policy(some), some, self.actor) for some in self.minibatches(rows)]
        return logged + [self.step_critic(some) for _ in range(self.config.critic_epochs) for some in self.minibatches(rows)]

    @torch.no_grad()
    def counterfactual(self, rows: Rows) -> Float[Tensor, "L M N"]:
        """Return A^i, in the return's unit where nothing is to normalise it."""
        joint = one_hot(rows["action"], self.spec.n_actions).float()
        q = self.q(self.critic, rows["obs"], rows["state"], joint)
        advantage = ops.gather_actions(ops.centre_under_policy(q, rows["probs"]), rows["action"])
        return advantage * self.returns.deviation if self.config.adv_norm == "none" else advantage

    def critic_loss(self, rows: Rows) -> Tensor:
        """Return the mean squared error of the taken actions' Q."""
        joint = one_hot(rows["action"], self.spec.n_actions).float()
        guess = ops.gather_actions(self.q(self.critic, rows["obs"], rows["state"], joint), rows["action"])
        return ((guess - rows["target"]) ** 2).mean()

    def policy_loss(self, logp: Float[Tensor, "L M N"], rows: Rows) -> Tensor:
        """Return the plain policy gradient's loss."""
        return -ops.masked_mean(rows["advantage"] * logp, rows["active"])
