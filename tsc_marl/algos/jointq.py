r"""jointq (new here): a joint-Q critic on per-agent rewards. Own effects are lambda-returns, effects on others are learned.

Every agent has a value v^i and two heads over its phases, both centred under the behaviour policy. A_o^i is the effect
of the phase on the agent's own rewards. A_e^i is its effect on the rewards of others. Let y^k be the one-step target of
agent k's return. The residual eps^k = y^k - v^k - A_o^k(a^k) is the part that k's own action does not explain. Its regression
on a^i gives the effect of i on k, because the policies are independent given the state. The joint value is
Q^J = sum_i [v^i + A_o^i(a^i) + A_e^i(a^i)] + M. It needs no IGM (individual-global-max) condition: on on-policy data the
centred heads, plus M's counterfactual, are the exact main effects of each agent on the team's return.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import CriticEstimates, Minibatch, PpoConfig
from tsc_marl.algos.mappo_ind import MappoInd
from tsc_marl.bounds import Count, NonNegative, Share
from tsc_marl.errors import UserError
from tsc_marl.nn.joint_critic import JointCritic
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.types import Batch, Spec

EVIDENCE_KEPT = 0.95
"""Share of the evidence from earlier batches that is kept at each batch."""


@dataclass(frozen=True)
class JointqConfig(PpoConfig):
    """Settings of the joint-Q critic."""

    advantage: Literal["own_plus_others", "mix", "one_step_team", "lambda_team", "cf"] = "own_plus_others"
    """With w others_weight and s sampled_share: `own_plus_others` is GAE^i + w [(1 - s) A_e^i + s sum of the others' GAE].
    `mix` is (1 - s)(A_o^i + w A_e^i) + s (GAE^i + w sum of the others' GAE).
    `one_step_team` is R^i + gamma V' - V with V the sum of all values; `lambda_team` adds the later team residuals.
    `cf` is the counterfactual of the joint Q."""
    others_weight: NonNegative = 1.0
    """Weight of the effect on others: 0 is selfish, 1 the team's objective."""
    others_trust: Literal["measured", "full"] = "measured"
    """Weight of the critic's effect on others. `measured`: the slope in [0, 1] of observed on predicted effects, on batches
    before the critic learned from them. `full`: 1."""
    sampled_share: Share = 0.0
    """Share of sampled returns beside the critic's effects (see `advantage`): more variance, less bias of the critic."""
    credit_scope: Literal["neighbours", "all"] = "neighbours"
    """Agents whose rewards the head A_e^i explains: the neighbours on the road graph, or all others jointly."""
    hops: Count = 1
    """Largest distance of a neighbour on the road graph."""
    mixer: Literal["sum", "monotone"] = "sum"
    """Interactions M of the joint Q beside the additive part; `monotone` (QMIX's) needs credit `all`."""
    shared_head: bool = False
    """Ablation: one head for both losses, as a single Q^i; for `mix` or `cf`, which read it, and without a mixer."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict one another, or that have no effect together."""
        if self.hops < 1:
            raise UserError(f"algo.hops must be at least 1; got {self.hops}; for none at all set algo.others_weight 0")
        super().__post_init__()
        if self.mixer != "sum" and self.credit_scope != "all":
            raise UserError(
                f"algo.mixer {self.mixer} explains all streams jointly; got algo.credit_scope {self.credit_scope}, set it to all"
            )
        if self.advantage == "cf" and self.credit_scope != "all":
            raise UserError(
                f"algo.advantage cf needs the joint Q of all agents; got algo.credit_scope {self.credit_scope}, set it to all"
            )
        for name, value, default in (
            ("sampled_share", self.sampled_share, 0),
            ("others_weight", self.others_weight, 1),
            ("others_trust", self.others_trust, "measured"),
        ):
            if value != default and self.advantage not in ("own_plus_others", "mix"):
                raise UserError(
                    f"algo.{name} {value} has no effect with algo.advantage {self.advantage}; "
                    "set algo.advantage to own_plus_others or mix"
                )
        self._check_reach()
        if self.shared_head and self.advantage not in ("mix", "cf"):
            raise UserError(
                f"algo.shared_head True has no effect with algo.advantage {self.advantage}; set algo.advantage to mix or cf"
            )
        if self.shared_head and self.mixer != "sum":
            raise UserError(f"algo.shared_head True trains no mixer; got algo.mixer {self.mixer}, set it to sum")

    def _check_reach(self) -> None:
        if self.hops > 1 and self.credit_scope == "all":
            raise UserError(
                f"algo.hops {self.hops} has no effect with algo.credit_scope all; set algo.credit_scope to neighbours"
            )
        for name, value, default in (("credit_scope", self.credit_scope, "neighbours"), ("hops", self.hops, 1)):
            if value != default and self.advantage.endswith("_team"):
                raise UserError(
                    f"algo.{name} {value} has no effect with algo.advantage {self.advantage}; "
                    "set algo.advantage to own_plus_others"
                )


class Jointq(MappoInd[JointqConfig]):
    """PPO on per-agent advantages of the joint-Q critic."""

    Config = JointqConfig
    value_layer = "base.net.head"
    critic: JointCritic
    reach: Tensor
    evidence: Tensor

    def __init__(self, spec: Spec, config: JointqConfig) -> None:
        super().__init__(spec, config)
        self.residual = ValueNorm(config.value_norm_decay)
        others = 1 - torch.eye(spec.n_agents)
        near = torch.eye(spec.n_agents)
        for i, neighbours in enumerate(spec.neighbours):
            near[i, list(neighbours)] = 1
        reach = others if config.credit_scope == "all" else others * (near.matrix_power(config.hops) > 0)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("evidence", torch.zeros(2))

    def build_critic(self) -> JointCritic:
        """Return the three-headed critic."""
        return JointCritic(self.central_net(1, 2), self.spec, self.config.mixer == "monotone")

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return the values v^i of the agents, in normalised units."""
        return critic.get_submodule("base")(obs, state)[..., 0]

    def estimate(self, batch: Batch) -> CriticEstimates:
        """Return the values, their residuals, and the critic's outputs in normalised units: `value`, `own` and `others`."""
        outputs = self.critic.base(batch.obs, batch.state)
        v, own, others = self.critic.heads(outputs[:-1], batch.extras["probs"])
        value = self.returns.restore(outputs[..., 0])
        residual = self.return_residual(batch, self.critic_reward(batch), value)
        return CriticEstimates(value, residual, {"value": v, "own": own, "others": others})

    def advantage(
        self, batch: Batch, estimates: CriticEstimates
    ) -> tuple[Float[Tensor, "T B N"], dict[str, Tensor], dict[str, float]]:
        """Return the advantage of the mode, the residuals as extras, and metrics; all with the critic before this update."""
        config, value, gae = self.config, estimates.value, estimates.residual
        done = (batch.terminated, batch.truncated)
        target = ops.one_step_target(batch.reward, value, gae + value[:-1], *done, config.gamma)
        v, own, others = (estimates.extras[name] for name in ("value", "own", "others"))
        unit = self.residual.deviation
        self.residual.update(target - value[:-1])
        residual = (target - value[:-1]) / self.residual.deviation
        own_effect, others_effect = (unit * ops.gather_actions(head, batch.action) for head in (own, others))
        if self.critic.mixer is not None:  # the centred head of an agent lacks the effect that M has learned
            others_effect = others_effect + unit * self._interaction_effect(batch, v, own)
        observed = (target - value[:-1] - own_effect) @ self.reach.T * batch.has_choice.float()
        metrics = self._update_evidence(others_effect, observed)  # without a choice, others_effect is 0
        metrics |= self._head_metrics(batch, own * unit, self.trust * others * unit, value[:-1])
        explained = ops.explained_variance(ops.gather_actions(own * unit, batch.action), residual * self.residual.deviation)
        metrics["critic/own_explained"] = explained
        advantage = self._combine(batch, estimates, own_effect, others_effect)
        return advantage, {"residual": residual}, metrics

    def _combine(self, batch: Batch, estimates: CriticEstimates, own: Tensor, others: Tensor) -> Float[Tensor, "T B N"]:
        """Return the advantage of the mode, given the critic's effects A_o^i(a^i) and A_e^i(a^i)."""
        config, gae = self.config, estimates.residual
        if config.advantage == "cf":
            return own + others
        if config.advantage in ("one_step_team", "lambda_team"):
            return self._team_advantage(batch, estimates.value)
        sampled = config.sampled_share
        on_others = (1 - sampled) * self.trust * others + sampled * gae @ self.reach.T
        on_itself = gae if config.advantage == "own_plus_others" else (1 - sampled) * own + sampled * gae
        return on_itself + config.others_weight * on_others

    @property
    def trust(self) -> float:
        """Weight of the predicted effects on others, in [0, 1]."""
        agreement, size = self.evidence.tolist()
        return 1.0 if self.config.others_trust == "full" else min(max(agreement / max(size, 1e-9), 0.0), 1.0)

    def reset_evidence(self) -> None:
        """Reset the statistics of predicted and observed effects on others."""
        self.evidence.zero_()

    def _update_evidence(self, predicted: Tensor, observed: Tensor) -> dict[str, float]:
        """Compare predicted and observed effects on others, on a batch that the heads have not seen; return metrics.

        The slope sum(p o) / sum(p^2) is the factor of the predictions with the least squared error.
        """
        new = torch.stack([(predicted * observed).sum(), (predicted**2).sum()])
        new = new / (observed**2).sum().clamp(min=1e-9)  # else batches with a jam would dominate
        self.evidence.lerp_(new, 1 - EVIDENCE_KEPT)
        return {"critic/others_slope": float(new[0] / new[1].clamp(min=1e-9)), "critic/trust": self.trust}

    def _team_advantage(self, batch: Batch, value: Tensor) -> Float[Tensor, "T B N"]:
        """Return R^i + gamma V' - V with V = sum_i v^i; for `lambda_team` plus the discounted later team residuals."""
        config, done = self.config, (batch.terminated, batch.truncated)
        team, total = batch.team_reward, value.sum(-1, keepdim=True)
        one_step = ops.gae(team, total, *done, config.gamma, 0.0)
        later: Tensor | float = 0.0
        if config.advantage == "lambda_team":
            later = ops.gae(team, total, *done, config.gamma, config.gae_lambda) - one_step
        return batch.reward - team + one_step + later

    def _interaction_effect(self, batch: Batch, v: Tensor, own: Tensor) -> Float[Tensor, "T B N"]:
        """Return M(a) - sum_b pi^i(b) M(b, a^-i) in normalised units."""
        action, probs = batch.action, batch.extras["probs"]
        q, chosen = v.unsqueeze(-1) + own, ops.gather_actions(own, action)
        effects = []
        for i in range(self.spec.n_agents):
            swapped = (v + chosen).unsqueeze(-2).repeat(1, 1, self.spec.n_actions, 1)
            swapped[..., i] = q[..., i, :]
            state = batch.state[:-1].unsqueeze(-2).expand(*swapped.shape[:-1], -1)
            m = self.critic.interaction(swapped, torch.zeros_like(swapped), state)
            effects.append(ops.gather_actions(m, action[..., i]) - (probs[..., i, :] * m).sum(-1))
        return torch.stack(effects, dim=-1)

    def critic_loss(self, rows: Minibatch) -> Tensor:
        """Return value loss + loss of A_o + loss of A_e; without a shared head, the loss of A_e does not train A_o."""
        v, own, others = self.critic(rows.obs, rows.state, rows.probs)
        value_loss = ops.clipped_value_loss(v, rows.value, rows.target, self.config.clip_coef)
        own_taken = ops.gather_actions(own, rows.action)
        own_loss = ((rows.extras["residual"] - own_taken) ** 2).mean()
        if self.config.shared_head:
            joint = rows.extras["residual"].sum(-1) - own_taken.sum(-1)
            return value_loss + own_loss + (joint**2).mean() / self.spec.n_agents
        unexplained = (rows.extras["residual"] - own_taken).detach()
        effect = ops.gather_actions(others, rows.action)
        if self.config.credit_scope == "neighbours":
            error = unexplained @ self.reach.T - effect
            return value_loss + own_loss + (error**2).mean() / self.reach.sum(-1).mean().clamp(min=1)
        joint = unexplained.sum(-1) - effect.sum(-1) - self.critic.interaction(v.detach(), own_taken.detach(), rows.state)
        return value_loss + own_loss + (joint**2).mean() / self.spec.n_agents

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy, the values v^i, and the heads A_o^i and A_e^i, A_e^i times the trust."""
        estimates = super().value_estimates(obs, avail, state, carry)
        _, own, others = self.critic(obs, state, estimates["probs"])
        return estimates | {"own": own * self.residual.deviation, "others": self.trust * others * self.residual.deviation}

    def _head_metrics(self, batch: Batch, own: Tensor, others: Tensor, value: Tensor) -> dict[str, float]:
        """Return metrics of each agent, in the reward's unit: value, effects, gap between its two best phases."""
        active, action = batch.has_choice.float(), batch.action
        best = (own + self.config.others_weight * others).masked_fill(~batch.avail[:-1], float("-inf")).topk(2, dim=-1).values
        gap = torch.where(best.isfinite().all(-1), best[..., 0] - best[..., 1], 0.0)
        size, size_others = (ops.agent_mean(ops.gather_actions(head, action).abs(), active) for head in (own, others))
        return self.spec.per_agent({
            "value": value.mean((0, 1)), "own_effect": size, "effect_on_others": size_others,
            "share_on_others": size_others / (size + size_others).clamp(min=1e-8), "action_gap": ops.agent_mean(gap, active),
        })  # fmt: skip
