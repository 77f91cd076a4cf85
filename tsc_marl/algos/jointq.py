r"""Per-agent-reward joint-Q critic (new here): own stream by lambda-return, effect on the others from a critic.

Every agent has a value v^i and two heads over its phases, both centred under the behaviour policy: A_o^i, the effect
of the phase on its own reward stream, and A_e^i, its effect on the streams of others. With y^k the one-step target of
stream k, the residual eps^k = y^k - v^k - A_o^k(a^k) is what k's own action does not explain; regressing it on a^i
gives the effect of i on k, because the policies are independent given the state. The joint value is
Q^J = sum_i [v^i + A_o^i(a^i) + A_e^i(a^i)] + M, so no IGM is needed: with the additive part present and on-policy data
the centred heads, plus M's counterfactual, are the exact main effects of each agent on the team's return.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import PpoConfig
from tsc_marl.algos.ippo import Rows
from tsc_marl.algos.mappo_ind import MappoInd
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, critics
from tsc_marl.types import Batch, Spec

EVIDENCE_KEPT = 0.95
"""Share of what earlier batches told of the critic that is kept at each."""


@dataclass(frozen=True)
class JointqConfig(PpoConfig):
    """Settings of the joint-Q critic."""

    advantage: Literal["own_plus_others", "mix", "one_step_team", "lambda_team", "cf"] = "own_plus_others"
    """`own_plus_others`: GAE^i + kappa [(1 - rho) A_e^i + rho sum of the others' GAE].
    `mix`: (1 - rho)(A_o^i + kappa A_e^i) + rho (GAE^i + kappa sum of the others' GAE).
    `one_step_team`: R^i + gamma V' - V with V the sum of all values; `lambda_team`: the same plus the later team residuals.
    `cf`: the counterfactual of the joint Q."""
    others_weight: float = 1.0
    """Weight of the effect on others: 0 is selfish, 1 the team's objective."""
    others_trust: Literal["measured", "full"] = "measured"
    """How far to believe the critic's effect on others: by the share of it that lately came true on data that the critic had
    not learned from (a slope in [0, 1]), or fully."""
    sampled_share: float = 0.0
    """Share of sampled returns in `mix`, in `own` of the others' sampled returns: more variance, less bias of the critic."""
    credit_scope: Literal["neighbours", "all"] = "neighbours"
    """Whose streams the externality head explains: the neighbours' on the road graph, or all others' jointly."""
    hops: int = 1
    """How far `neighbours` reach: those of the neighbours too with 2, and so on."""
    mixer: Literal["sum", "monotone"] = "sum"
    """Interactions M of the joint Q beside the additive part; `monotone` (QMIX's) needs credit `all`."""
    shared_head: bool = False
    """Ablation: one head for both losses, as a single Q^i; for `mix` or `cf`, which read it, and without a mixer."""

    def __post_init__(self) -> None:
        """Refuse contradictions."""
        super().__post_init__()
        if not 0 <= self.sampled_share <= 1:
            raise UserError(f"algo.sampled_share must lie in [0, 1]; got {self.sampled_share}")
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
                    f"algo.{name} {value} has no effect with algo.advantage {self.advantage}; set algo.advantage to own_plus_others or mix"
                )
        self._check_reach()
        if self.shared_head and self.advantage not in ("mix", "cf"):
            raise UserError(
                f"algo.shared_head True has no effect with algo.advantage {self.advantage}; set algo.advantage to mix or cf"
            )
        if self.shared_head and self.mixer != "sum":
            raise UserError(f"algo.shared_head True trains no mixer; got algo.mixer {self.mixer}, set it to sum")

    def _check_reach(self) -> None:
        if self.hops < 1:
            raise UserError(f"algo.hops must be at least 1; got {self.hops}; for none at all set algo.others_weight 0")
        if self.hops > 1 and self.credit_scope == "all":
            raise UserError(
                f"algo.hops {self.hops} has no effect with algo.credit_scope all; set algo.credit_scope to neighbours"
            )
        for name, value, default in (("credit_scope", self.credit_scope, "neighbours"), ("hops", self.hops, 1)):
            if value != default and self.advantage.endswith("_team"):
                raise UserError(
                    f"algo.{name} {value} has no effect with algo.advantage {self.advantage}; set algo.advantage to own_plus_others"
                )


class JointCritic(nn.Module):
    """Heads v, D_o, D_e per agent on one trunk, and the mixer. D_o and D_e start at zero."""

    def __init__(self, base: critics.CentralNet, spec: Spec, monotone: bool) -> None:
        super().__init__()
        self.base, self.n_actions = base, spec.n_actions
        self.mixer = critics.MonotoneMixer(spec.n_agents, spec.state_dim) if monotone else None
        with torch.no_grad():
            base.net.head.weight[:, 1:] = 0

    def forward(self, obs: Tensor, state: Tensor, probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return v [..., N] and the centred heads [..., N, A], in normalised units."""
        v, own, others = self.base(obs, state).split([1, self.n_actions, self.n_actions], dim=-1)
        return v.squeeze(-1), ops.centre_under_policy(own, probs), ops.centre_under_policy(others, probs)

    def interaction(self, v: Tensor, own_taken: Tensor, state: Tensor) -> Tensor:
        """Return M of the agents' Q^i(a^i) [..., N], summed to [...]."""
        return self.mixer(v + own_taken, state) if self.mixer is not None else torch.zeros_like(v[..., 0])


class Jointq(MappoInd):
    """PPO on per-agent advantages of the joint-Q critic."""

    Config = JointqConfig
    config: JointqConfig  # pyright: ignore[reportIncompatibleVariableOverride]
    critic: JointCritic
    reach: Tensor
    evidence: Tensor

    def __init__(self, spec: Spec, config: JointqConfig) -> None:
        super().__init__(spec, config)
        self.residual = agent.ValueNorm(config.value_norm_decay)
        apart = 1 - torch.eye(spec.n_agents)
        near = torch.eye(spec.n_agents)
        for i, others in enumerate(spec.neighbours):
            near[i, list(others)] = 1
        reach = apart if config.credit_scope == "all" else apart * (near.matrix_power(config.hops) > 0)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("evidence", torch.zeros(2))

    def build_critic(self) -> JointCritic:
        """Return the three-headed critic."""
        return JointCritic(self.central_net(1 + 2 * self.spec.n_actions), self.spec, self.config.mixer == "monotone")

    def normalised_values(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M N"]:
        """Return v^i."""
        return self.critic.base(obs, state)[..., 0]

    def value_head(self) -> agent.GroupLinear:
        """Return the layer whose first output is v^i."""
        return self.critic.base.net.head

    def advantage(
        self,
        batch: Batch,
        value: Float[Tensor, "T_1 B N"],
        estimate: Float[Tensor, "T B N"],
        rows: Rows,
        metrics: dict[str, float],
    ) -> Float[Tensor, "T B N"]:
        """Combine the own lambda-return and the critic's heads, as they were before this update."""
        config, done = self.config, (batch.terminated, batch.truncated)
        target = ops.one_step_target(batch.reward, value, estimate + value[:-1], *done, config.gamma)
        v, own, others = self.critic(rows["obs"], rows["state"], rows["probs"])
        unit = self.residual.deviation
        self.residual.update(target - value[:-1])
        rows["residual"] = (target - value[:-1]) / self.residual.deviation
        a_own, a_others = (unit * ops.gather_actions(head, batch.action) for head in (own, others))
        if self.critic.mixer is not None:  # whatever effect of an agent M has learned, its centred head has not
            a_others = a_others + unit * self._interaction_effect(v, own, rows)
        happened = (target - value[:-1] - a_own) @ self.reach.T * rows["active"]
        self._weigh(a_others, happened, metrics)  # forced: a_others is 0
        self._log_heads(rows, own * unit, self.trust * others * unit, value[:-1], metrics)
        if config.advantage in ("own_plus_others", "mix"):
            on_others = (1 - config.sampled_share) * self.trust * a_others + config.sampled_share * estimate @ self.reach.T
            on_itself = (
                estimate
                if config.advantage == "own_plus_others"
                else (1 - config.sampled_share) * a_own + config.sampled_share * estimate
            )
            return on_itself + config.others_weight * on_others
        if config.advantage == "cf":
            return a_own + a_others
        return self._document(batch, value, config.advantage == "lambda_team")

    @property
    def trust(self) -> float:
        """Share of the predicted effects on others that is believed."""
        agreement, size = self.evidence.tolist()
        return 1.0 if self.config.others_trust == "full" else min(max(agreement / max(size, 1e-9), 0.0), 1.0)

    def _weigh(self, predicted: Tensor, happened: Tensor, metrics: dict[str, float]) -> None:
        """Compare what the heads, which have not seen this batch, predicted for the others with what their streams show.

        The slope sum(p h) / sum(p^2) is the factor by which predictions come nearest to what happened in squared error.
        """
        new = torch.stack([(predicted * happened).sum(), (predicted**2).sum()])
        new = new / (happened**2).sum().clamp(min=1e-9)  # or batches with a jam would speak for all
        self.evidence.lerp_(new, 1 - EVIDENCE_KEPT)
        metrics["critic/others_slope"] = float(new[0] / new[1].clamp(min=1e-9))
        metrics["critic/trust"] = self.trust

    def _document(self, batch: Batch, value: Tensor, sampled: bool) -> Tensor:
        """R^i + gamma V' - V with V = sum_i v^i, and for lambda_team the discounted later team residuals."""
        config, done = self.config, (batch.terminated, batch.truncated)
        team, total = batch.reward.sum(-1, keepdim=True), value.sum(-1, keepdim=True)
        one_step = ops.gae(team, total, *done, config.gamma, 0.0)
        later = ops.gae(team, total, *done, config.gamma, config.gae_lambda) - one_step if sampled else 0.0
        return batch.reward - team + one_step + later

    def _interaction_effect(self, v: Tensor, own: Tensor, rows: Rows) -> Tensor:
        """M(a) - sum_b pi^i(b) M(b, a^-i), normalised units, [T, B, N]."""
        q, chosen = v.unsqueeze(-1) + own, ops.gather_actions(own, rows["action"])
        effects = []
        for i in range(self.spec.n_agents):
            swapped = (v + chosen).unsqueeze(-2).repeat(1, 1, self.spec.n_actions, 1)
            swapped[..., i] = q[..., i, :]
            state = rows["state"].unsqueeze(-2).expand(*swapped.shape[:-1], -1)
            m = self.critic.interaction(swapped, torch.zeros_like(swapped), state)
            effects.append(ops.gather_actions(m, rows["action"][..., i]) - (rows["probs"][..., i, :] * m).sum(-1))
        return torch.stack(effects, dim=-1)

    def critic_loss(self, rows: Rows) -> Tensor:
        """Value loss + own-stream loss + joint loss; the joint one leaves the own heads alone unless they are tied."""
        v, own, others = self.critic(rows["obs"], rows["state"], rows["probs"])
        value_loss = ops.clipped_value_loss(v, rows["value"], rows["target"], self.config.clip_coef)
        own_taken = ops.gather_actions(own, rows["action"])
        own_loss = ((rows["residual"] - own_taken) ** 2).mean()
        if self.config.shared_head:
            joint = rows["residual"].sum(-1) - own_taken.sum(-1)
            return value_loss + own_loss + (joint**2).mean() / self.spec.n_agents
        unexplained = (rows["residual"] - own_taken).detach()
        effect = ops.gather_actions(others, rows["action"])
        if self.config.credit_scope == "neighbours":
            error = unexplained @ self.reach.T - effect
            return value_loss + own_loss + (error**2).mean() / self.reach.sum(-1).mean().clamp(min=1)
        joint = unexplained.sum(-1) - effect.sum(-1) - self.critic.interaction(v.detach(), own_taken.detach(), rows["state"])
        return value_loss + own_loss + (joint**2).mean() / self.spec.n_agents

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy, the values and both heads, the effects on others as far as they are believed."""
        known = super().value_estimates(obs, avail, state, carry)
        _, own, others = self.critic(obs, state, known["probs"])
        return known | {"own": own * self.residual.deviation, "others": self.trust * others * self.residual.deviation}

    def _log_heads(self, rows: Rows, own: Tensor, others: Tensor, value: Tensor, metrics: dict[str, float]) -> None:
        """Per agent, in the reward's unit: how it values its phases, and how much it matters to others."""
        active = rows["active"]
        best = (own + self.config.others_weight * others).masked_fill(~rows["avail"], float("-inf")).topk(2, dim=-1).values
        gap = torch.where(best.isfinite().all(-1), best[..., 0] - best[..., 1], 0.0)
        size, size_others = (ops.agent_mean(ops.gather_actions(head, rows["action"]).abs(), active) for head in (own, others))
        metrics |= self.spec.per_agent({
            "value": value.mean((0, 1)), "own_effect": size, "effect_on_others": size_others,
            "share_on_others": size_others / (size + size_others).clamp(min=1e-8), "action_gap": ops.agent_mean(gap, active),
        })  # fmt: skip
        residual = rows["residual"] * self.residual.deviation
        metrics["critic/own_explained"] = ops.explained_variance(ops.gather_actions(own, rows["action"]), residual)
