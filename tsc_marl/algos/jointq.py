r"""jointq (new here): a joint-Q critic on per-agent rewards. Own effects are lambda-returns, effects on others are learned.

Every agent has a value v^i, and effects of its phases, all centred under the behaviour policy: A_o^i on its own return, and
A^{i->k} on the return of each agent k near it. Let eps^k be the lambda-residual of agent k's return. Heads and targets are
those of the regression of eps^k on A_o^k(a^k) + sum_i A^{i->k}(a^i): the policies are independent given the state, so that
the centred heads are the main effects of each agent (the residual-on-residual form of Nie and Wager 2021, arXiv 1712.04912).
The joint value is Q^J = sum_i [v^i + A_o^i(a^i) + A_e^i(a^i)] with A_e^i = sum_k A^{i->k}. It needs no IGM
(individual-global-max) condition. One function serves all pairs of agents, and learns apart from the policy's critic:
at a learning rate of its own, from the newest rows and from rows of the whole training, with the probabilities of their time.
A moving mean of its weights is read. Its errors on rows that it has not learned from are logged.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsc_marl import ops
from tsc_marl.algos.base import CriticEstimates, Minibatch, PpoConfig
from tsc_marl.algos.mappo_ind import MappoInd
from tsc_marl.bounds import Count, NaturalNumber, NonNegative, Positive, Share
from tsc_marl.errors import UserError
from tsc_marl.nn.adam import Adam
from tsc_marl.nn.effects import EffectRows, effects_net
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.nn.reservoir import Reservoir
from tsc_marl.nn.sharing import polyak_update, target_copy
from tsc_marl.types import Batch, Spec

APART = ThreadPoolExecutor(1, "effects", torch.set_num_threads, (1,))
"""Thread of the effects' gradient steps."""
WEIGHT_DECAY = 0.01
"""Share of the effects' weights that each step takes off, times the learning rate (AdamW: arXiv 1711.05101)."""
MOVE = 0.02
"""Share of the way to the newest weights that the effects' mean weights move after each minibatch."""
KEPT_ROWS = 400
"""Rows of a batch that are kept, times the number of agents."""
PART = 5
"""Decisions whose effects are computed at once."""
EVIDENCE_KEPT = 0.95
"""Share of the evidence from earlier batches that is kept at each batch."""


@dataclass(frozen=True)
class JointqConfig(PpoConfig):
    """Settings of the joint-Q critic."""

    advantage: Literal["own_plus_others", "mix", "one_step_team", "lambda_team"] = "own_plus_others"
    """With w others_weight and s sampled_share: `own_plus_others` is GAE^i + w [(1 - s) A_e^i + s sum of the others' GAE].
    `mix` is (1 - s)(A_o^i + w A_e^i) + s (GAE^i + w sum of the others' GAE).
    `one_step_team` is R^i + gamma V' - V with V the sum of all values; `lambda_team` adds the later team residuals."""
    others_weight: NonNegative = 1.0
    """Weight of the effect on others: 0 is selfish, 1 the team's objective."""
    others_trust: Literal["measured", "full"] = "measured"
    """Weight of the critic's effect on others. `measured`: the slope in [0, 1] of observed on predicted effects, on batches
    before the critic learned from them. `full`: 1."""
    sampled_share: Share = 0.0
    """Share of sampled returns beside the critic's effects (see `advantage`): more variance, less bias of the critic."""
    hops: Count = 1
    """Largest distance on the road graph of an agent that an effect reaches."""
    effects_lr: Positive = 5e-4
    """Learning rate of the effects at the start; it falls as that of the others does."""
    effects_epochs: Count = 1
    """Passes of the effects over each new batch. More than one fits the noise of the batch."""
    effects_replay: NaturalNumber = 100
    """Batches of the whole training of which rows are kept; the effects learn from as many of them as new ones. 0: none."""
    effects_lambda: Share = 0.8
    """Lambda of the residuals that the effects explain. A shorter one has less noise, and more of the values' errors."""

    def __post_init__(self) -> None:
        """Refuse settings that contradict one another, or that have no effect together."""
        if self.hops < 1:
            raise UserError(f"algo.hops must be at least 1; got {self.hops}; for none at all set algo.others_weight 0")
        super().__post_init__()
        if not self.advantage.endswith("_team"):
            return
        for name in ("sampled_share", "others_weight", "others_trust", "hops"):
            value = getattr(self, name)
            if value != type(self).__dataclass_fields__[name].default:
                raise UserError(
                    f"algo.{name} {value} has no effect with algo.advantage {self.advantage}; "
                    "set algo.advantage to own_plus_others or mix"
                )


class Jointq(MappoInd[JointqConfig]):
    """PPO on per-agent advantages of the joint-Q critic."""

    Config = JointqConfig
    evidence: Tensor

    def __init__(self, spec: Spec, config: JointqConfig) -> None:
        super().__init__(spec, config)
        net = effects_net(spec, config.hops, config.critic_hidden, config.sharing)
        self.effects, self.online_effects = target_copy(net), net
        self.effects_optimiser = Adam(
            self.online_effects.parameters(), config.effects_lr, weight_decay=WEIGHT_DECAY, decoupled_weight_decay=True
        )
        self.reservoir = Reservoir(config.effects_replay, KEPT_ROWS)
        self.residual = ValueNorm(config.value_norm_decay, spec.n_agents)  # else the busiest agents would be all that counts
        self.register_buffer("evidence", torch.zeros(2))

    def centred_effects(
        self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"], probs: Float[Tensor, "*M N A"]
    ) -> tuple[Float[Tensor, "*M N A"], Float[Tensor, "*M P A"]]:
        """Return A_o^i and A^{i->k}, in units of the receiver's residual."""
        return self._centred(self.effects(obs, state), probs)

    def _centred(self, effects: tuple[Tensor, Tensor], probs: Tensor) -> tuple[Tensor, Tensor]:
        own, others = effects
        return ops.centre_under_policy(own, probs), ops.centre_under_policy(others, probs[..., self.effects.sender, :])

    def _centred_in_parts(self, *rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return `centred_effects` of rows [T, B, ...], made in parts that a processor's cache holds."""
        parts = [self.centred_effects(*some) for some in zip(*(part.split(PART) for part in rows), strict=True)]
        own, pairs = zip(*parts, strict=True)
        return torch.cat(own), torch.cat(pairs)

    def taken(
        self, own: Float[Tensor, "*M N A"], others: Float[Tensor, "*M P A"], action: Int[Tensor, "*M N"]
    ) -> tuple[Float[Tensor, "*M N"], Float[Tensor, "*M P"]]:
        """Return the effects of the actions taken."""
        return ops.gather_actions(own, action), ops.gather_actions(others, action[..., self.effects.sender])

    def onto(self, pairs: Float[Tensor, "*M P"]) -> Float[Tensor, "*M N"]:
        """Return the sums over the pairs of each receiver."""
        return self._sums(pairs, self.effects.receiver, -1)

    def _sums(self, pairs: Tensor, agent: Int[Tensor, " P"], axis: int) -> Tensor:
        shape = list(pairs.shape)
        shape[axis] = self.spec.n_agents
        return pairs.new_zeros(shape).index_add(axis, agent, pairs)

    def effects_on_others(self, pairs: Float[Tensor, "*M P A"]) -> Float[Tensor, "*M N A"]:
        """Return A_e^i in the reward's unit: the sums over the pairs of each sender, times the trust."""
        unit = self.residual.deviation[self.effects.receiver].unsqueeze(-1)
        return self.trust * self._sums(pairs * unit, self.effects.sender, -2)

    def advantage(
        self, batch: Batch, estimates: CriticEstimates
    ) -> tuple[Float[Tensor, "T B N"], dict[str, Tensor], dict[str, float]]:
        """Return the advantage of the mode, the residuals as extras, and metrics; all with the critic before this update."""
        config, value = self.config, estimates.value
        residual = ops.gae(batch.reward, value, batch.terminated, batch.truncated, config.gamma, config.effects_lambda)
        own, pairs = self._centred_in_parts(batch.obs[:-1], batch.state[:-1], batch.extras["probs"])
        own_taken, pairs_taken = self.taken(own, pairs, batch.action)
        metrics = self._update_evidence(residual / self.residual.deviation, own_taken, self.onto(pairs_taken))
        own, others = own * self.residual.deviation.unsqueeze(-1), self.effects_on_others(pairs)
        self.residual.update(residual)
        metrics |= self._agent_metrics(batch, own, others, value[:-1])
        advantage = self._combine(batch, estimates, *(ops.gather_actions(head, batch.action) for head in (own, others)))
        unit = self.residual.deviation
        return advantage, {"residual": residual / unit, "unit": unit.expand_as(residual)}, metrics

    def _combine(self, batch: Batch, estimates: CriticEstimates, own: Tensor, others: Tensor) -> Float[Tensor, "T B N"]:
        """Return the advantage of the mode, given the critic's effects A_o^i(a^i) and A_e^i(a^i)."""
        config, gae = self.config, estimates.residual
        if config.advantage in ("one_step_team", "lambda_team"):
            return self._team_advantage(batch, estimates.value)
        sampled, of_receivers = config.sampled_share, gae[..., self.effects.receiver]
        on_others = (1 - sampled) * others + sampled * self._sums(of_receivers, self.effects.sender, -1)
        on_itself = gae if config.advantage == "own_plus_others" else (1 - sampled) * own + sampled * gae
        return on_itself + config.others_weight * on_others

    @property
    def trust(self) -> float:
        """Weight of the predicted effects on others, in [0, 1]."""
        agreement, size = self.evidence.tolist()
        return 1.0 if self.config.others_trust == "full" else min(max(agreement / max(size, 1e-12), 0.0), 1.0)

    def reset_evidence(self) -> None:
        """Reset the statistics of predicted and observed effects on others."""
        self.evidence.zero_()

    def _update_evidence(self, residual: Tensor, own: Tensor, onto: Tensor) -> dict[str, float]:
        """Compare predicted and observed effects, on a batch that the heads have not seen; return metrics.

        The slope sum(p o) / sum(p^2) is the factor of the predictions p with the least squared error. `explained` is the
        share of the observed o that they explain.
        """
        of_own, of_others = _agreement(own, residual), _agreement(onto, residual - own)
        metrics = {}
        for name, (agreement, size) in (("own", of_own.tolist()), ("others", of_others.tolist())):
            metrics |= {f"critic/{name}_slope": agreement / max(size, 1e-12), f"critic/{name}_explained": 2 * agreement - size}
        if of_others[1] > 0:  # effects start at 0, which says nothing
            self.evidence.lerp_(of_others, 1 - EVIDENCE_KEPT)
        return metrics | {"critic/trust": self.trust}

    def _team_advantage(self, batch: Batch, value: Tensor) -> Float[Tensor, "T B N"]:
        """Return R^i + gamma V' - V with V = sum_i v^i; for `lambda_team` plus the discounted later team residuals."""
        config, done = self.config, (batch.terminated, batch.truncated)
        team, total = batch.team_reward, value.sum(-1, keepdim=True)
        one_step = ops.gae(team, total, *done, config.gamma, 0.0)
        later: Tensor | float = 0.0
        if config.advantage == "lambda_team":
            later = ops.gae(team, total, *done, config.gamma, config.gae_lambda) - one_step
        return batch.reward - team + one_step + later

    def learning_rates(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """Return the optimisers, and the learning rate at the start of training for each."""
        return [*super().learning_rates(), (self.effects_optimiser, self.config.effects_lr)]

    def begin_apart(self, each: "Sequence[tuple[Jointq, float, Minibatch]]") -> Future[None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin to train the effects: of all networks at once, each with its share of the loss."""
        config = self.config
        rows = [(algorithm, share, algorithm.effect_rows(of_policy)) for algorithm, share, of_policy in each]
        for algorithm, _, own in rows:
            algorithm.reservoir.add(own)
        drawn = []  # here, since the thread must not draw from torch's global generator
        for _ in range(config.effects_epochs):
            parts = (torch.randperm(own.action.shape[1]).tensor_split(config.num_minibatches) for _, _, own in rows)
            for chosen in zip(*parts, strict=True):
                pairs = zip(rows, chosen, strict=True) if config.effects_replay else ()
                drawn.append((chosen, [algorithm.reservoir.draw(len(of)) for (algorithm, _, _), of in pairs]))
        return APART.submit(self._fit_effects, rows, drawn)

    def effect_rows(self, rows: Minibatch) -> EffectRows:
        """Return what the effects learn from."""
        state = rows.state if self.effects.reads_state else rows.state[..., :0]
        return EffectRows(rows.obs, state, rows.probs, rows.action, rows.extras["residual"], rows.extras["unit"])

    def _fit_effects(
        self,
        each: "Sequence[tuple[Jointq, float, EffectRows]]",
        drawn: Sequence[tuple[Sequence[Int[Tensor, " _"]], Sequence[EffectRows]]],
    ) -> None:
        """Take a step on each minibatch and one on the kept rows beside it, all networks at once; then move the mean weights."""
        for chosen, kept in drawn:
            newest = [own.map(lambda x, of=of: x[:, of]) for (_, _, own), of in zip(each, chosen, strict=True)]
            for some in (newest, kept):
                losses = [
                    share * algorithm.effects_loss(own)
                    for (algorithm, share, _), own in zip(each, some, strict=False)
                    if own.action.shape[1]
                ]
                if losses:
                    self._descend(torch.stack(losses).sum(), self.online_effects, self.effects_optimiser)
            polyak_update(self.effects, self.online_effects, MOVE)

    def effects_loss(self, rows: EffectRows) -> Tensor:
        """Return the mean squared residual that the newest effects leave unexplained, in the units of the rows' time."""
        centred = self._centred(self.online_effects(rows.obs, rows.state), rows.probs)
        own, pairs = self.taken(*centred, rows.action)
        return ((rows.residual - (own + self.onto(pairs)) * self.residual.deviation / rows.unit) ** 2).mean()

    def state_here(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a state of another network with the mean unit of its residuals; files of earlier versions have one net."""
        before = {f"online_{name}": value for name, value in state.items() if name.startswith("effects.")}
        return self.residual.state_here(before | dict(state), "residual.")

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy, the values v^i, and the heads A_o^i and A_e^i, A_e^i times the trust."""
        estimates = super().value_estimates(obs, avail, state, carry)
        own, pairs = self.centred_effects(obs, state, estimates["probs"])
        return estimates | {"own": own * self.residual.deviation.unsqueeze(-1), "others": self.effects_on_others(pairs)}

    def _agent_metrics(self, batch: Batch, own: Tensor, others: Tensor, value: Tensor) -> dict[str, float]:
        """Return metrics of each agent, in the reward's unit: value, effects, gap between its two best phases."""
        active = batch.has_choice.float()
        best = (own + self.config.others_weight * others).masked_fill(~batch.avail[:-1], float("-inf")).topk(2, dim=-1).values
        gap = torch.where(best.isfinite().all(-1), best[..., 0] - best[..., 1], 0.0)
        size, size_others = (ops.agent_mean(ops.gather_actions(head, batch.action).abs(), active) for head in (own, others))
        return self.spec.per_agent({
            "value": value.mean((0, 1)), "own_effect": size, "effect_on_others": size_others,
            "share_on_others": size_others / (size + size_others).clamp(min=1e-8), "action_gap": ops.agent_mean(gap, active),
        })  # fmt: skip


def _agreement(predicted: Tensor, observed: Tensor) -> Float[Tensor, "2"]:
    """Return sum(p o) and sum(p^2) as shares of sum(o^2): else batches with a jam would dominate."""
    sums = torch.stack([(predicted * observed).sum(), (predicted**2).sum()])
    return sums / (observed**2).sum().clamp(min=1e-9)
