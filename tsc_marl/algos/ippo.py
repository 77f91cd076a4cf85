"""IPPO (de Witt et al. 2020, arXiv 2011.09533): each agent learns from its own reward R^i with a local value V(o^i).

Value normalisation, clipped Huber value loss, advantage normalisation over the rows with a choice, orthogonal initialisation
and gradient clipping follow arXiv 2103.01955. The other on-policy methods override parts of this class.
"""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tsc_marl import ops
from tsc_marl.algos.base import CriticEstimates, Minibatch, PpoConfig, PpoSettings
from tsc_marl.nn import agent, nets
from tsc_marl.nn.adam import Adam
from tsc_marl.nn.normalisation import ValueNorm
from tsc_marl.types import Algorithm, Batch, Spec, mean_metrics

BESIDE = ThreadPoolExecutor(1, "critic", torch.set_num_threads, (1,))
"""Thread of the critic's gradient steps: critic and actor share no weights, so that their steps fit side by side."""


class Ippo(Algorithm[PpoSettings]):
    """Independent PPO."""

    Config = PpoConfig
    independent_softmax: ClassVar[bool] = True
    """Whether each agent's policy is the softmax of the actor's last layer, whatever the other agents do."""
    learns_together: ClassVar[bool] = True
    """Whether `update_together` does what `update` does, for several networks."""
    value_layer: ClassVar[str] = "head"
    """Path in the critic of the layer whose first output is the value."""

    def __init__(self, spec: Spec, config: PpoSettings) -> None:
        super().__init__(spec, config)
        self.actor = self.build_actor()
        self.critic = self.build_critic()
        self.returns = ValueNorm(config.value_norm_decay)
        self.actor_optimiser = Adam(self.actor.parameters(), lr=config.lr, eps=1e-5)
        self.critic_optimiser = Adam(self.critic.parameters(), lr=config.lr, eps=1e-5)

    def build_actor(self) -> nets.AgentOrPhaseNet:
        """Return the policy's network; called once, at construction, before `build_critic`."""
        config = self.config
        return nets.agent_net(self.spec, config.hidden, config.sharing, 0.01, 0, 1, config.recurrent)

    def build_critic(self) -> nn.Module:
        """Return the critic, V(o^i); called once, at construction."""
        return nets.agent_net(self.spec, self.config.critic_hidden, self.config.sharing, 1.0, 1, 0)

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M K"]:
        """Return the values of a critic in normalised units: one per agent (K = N), or one for all (K = 1)."""
        return critic(obs).squeeze(-1)

    def normalised_values(self, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M K"]:
        """Return the values of the online critic in normalised units."""
        return self.values_of(self.critic, obs, state)

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B K"]:
        """Return the rewards [T, B, K] whose discounted sums the values predict: R^i."""
        return batch.reward

    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Sample from the policy, or take its mode when `generator` is None."""
        logits, after = self.actor.unroll(obs.unsqueeze(0), carry)
        logp = self.policy_log_probs(logits[0], avail)
        if generator is None:
            return logp.argmax(-1), {}, after
        probs = logp.exp()
        action = ops.sample(probs, generator)
        extras = {"logp": ops.gather_actions(logp, action), "probs": probs}
        if after is not None:
            extras["hidden"] = torch.zeros_like(after) if carry is None else carry
        return action, extras, after

    def policy_log_probs(self, logits: Float[Tensor, "*M A"], avail: Bool[Tensor, "*M A"]) -> Float[Tensor, "*M A"]:
        """Return log pi(.|o^i) for the actor's logits."""
        return ops.log_policy(logits, avail)

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policy and the critic's values."""
        probs = self.policy_log_probs(self.actor.unroll(obs.unsqueeze(0), carry)[0][0], avail).exp()
        return {"probs": probs, "value": self.returns.restore(self.normalised_values(obs, state))}

    def policy_state(self) -> dict[str, Tensor]:
        """Return the actor's weights."""
        return {name: value for name, value in self.state_dict().items() if name.startswith("actor.")}

    def update(self, batch: Batch, progress: float) -> dict[str, float]:
        """Make targets with the old networks, then take `epochs` x `num_minibatches` steps on actor and critic."""
        self._set_learning_rate(progress)
        whole, metrics = self.prepare(batch)
        rows = self.cut(whole)
        apart = self.begin_apart([(self, 1.0, rows)])
        steps = self.fit(rows)
        apart.result()
        return metrics | mean_metrics(steps) | self.agent_metrics(rows)

    @staticmethod
    def update_together(parts: "Sequence[tuple[Ippo[Any], Batch]]", progress: float) -> dict[str, float]:
        """Take the steps of `update` on batches of several networks at once: each step's loss is the mean over all their rows.

        Args:
            parts: the algorithm on each network, all with the same weights and optimisers, and its batch.
            progress: share of training that is done, in [0, 1].
        """
        first = parts[0][0]
        first._set_learning_rate(progress)
        prepared = [algorithm.prepare(batch) for algorithm, batch in parts]
        rows = [(algorithm, algorithm.cut(whole)) for (algorithm, _), (whole, _) in zip(parts, prepared, strict=True)]
        active = sum(float(own.active.sum()) for _, own in rows)
        apart = first.begin_apart([(algorithm, float(own.active.sum()) / max(active, 1.0), own) for algorithm, own in rows])
        steps = []
        for some in itertools.zip_longest(*(algorithm.minibatches(own) for algorithm, own in rows)):
            each = [
                (algorithm, float(whole.active.sum()) / max(active, 1.0), own)
                for (algorithm, whole), own in zip(rows, some, strict=True)
                if own is not None
            ]
            steps.append(first._step_together(each))
        apart.result()
        return mean_metrics([metrics for _, metrics in prepared]) | mean_metrics(steps)

    def _step_together(self, each: "list[tuple[Ippo[Any], float, Minibatch]]") -> dict[str, float]:
        """Take one gradient step on the critic and one on the actor, on shares of the losses of several networks."""
        critic = BESIDE.submit(self._step_critic_together, each)
        losses, details = zip(
            *(algorithm.actor_loss(algorithm.log_policy(rows), rows) for algorithm, _, rows in each), strict=True
        )
        actor = torch.stack([share * loss for (_, share, _), loss in zip(each, losses, strict=True)]).sum()
        norm = self._descend(actor, self.actor, self.actor_optimiser)
        return mean_metrics(details) | critic.result() | {"grad_norm/actor": norm}

    def fit_critic(self, batch: Batch, progress: float) -> dict[str, float]:
        """Let the critic alone learn from a batch, with the targets and steps of `update`; the policy stays."""
        self._set_learning_rate(progress)
        whole, metrics = self.prepare(batch)
        rows = self.cut(whole)
        apart = self.begin_apart([(self, 1.0, rows)])
        steps = [self.step_critic(some) for some in self.minibatches(rows)]
        apart.result()
        return metrics | mean_metrics(steps)

    def begin_apart(self, each: "Sequence[tuple[Ippo[Any], float, Minibatch]]") -> Future[None]:
        """Begin to train what shares nothing with actor and critic, beside their steps; most algorithms have nothing of the kind.

        Args:
            each: the algorithm on each network, the network's share of the loss, and rows [L, M, ...].
        """
        nothing: Future[None] = Future()
        nothing.set_result(None)
        return nothing

    def reset_evidence(self) -> None:
        """Reset statistics of the critic's errors on earlier batches; most critics have none."""

    def _set_learning_rate(self, progress: float) -> None:
        for optimiser, lr in self.learning_rates():
            for group in optimiser.param_groups:
                group["lr"] = lr * (1 - (1 - self.config.lr_final_fraction) * progress)

    def learning_rates(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """Return the optimisers, and the learning rate at the start of training for each."""
        return [(self.actor_optimiser, self.config.lr), (self.critic_optimiser, self.config.lr)]

    @torch.no_grad()
    def agent_metrics(self, rows: Minibatch) -> dict[str, float]:
        """Return metrics of each agent over its rows with a choice.

        - `entropy` of the old policy.
        - `kl`: divergence of the new policy from the old one.
        - `laziness`: 1 - E|A^i| / max_k E|A^k|, with the advantages before normalisation. 1 means hardly any advantage.
        - `forced`: share of rows without a choice.
        """
        active, old = rows.active, rows.probs.clamp(min=1e-12).log()
        size = ops.agent_mean(rows.raw_advantage.abs(), active)
        return self.spec.per_agent({
            "entropy": ops.agent_mean(ops.entropy(old), active), "kl": ops.agent_mean(ops.kl(self.log_policy(rows), old), active),
            "laziness": 1 - size / size.max().clamp(min=1e-8), "forced": 1 - active.mean((0, 1)),
        })  # fmt: skip

    def cut(self, rows: Minibatch) -> Minibatch:
        """Cut rows [T, B, ...] to sequences [L, M, ...]."""
        length = ops.chunk_length(len(rows.action), self.config.bptt_length) if self.config.recurrent else 1
        return rows.map(lambda x: ops.chunks(x, length))

    def fit(self, rows: Minibatch) -> list[dict[str, float]]:
        """Take all gradient steps on rows [L, M, ...]; return the metrics of each."""
        return [self.step(some) for some in self.minibatches(rows)]

    def minibatches(self, rows: Minibatch) -> Iterator[Minibatch]:
        """Divide the sequences at random, anew in each epoch."""
        for _ in range(self.config.epochs):
            for chosen in torch.randperm(rows.action.shape[1]).chunk(self.config.num_minibatches):
                yield rows.map(lambda x, chosen=chosen: x[:, chosen])

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Minibatch, dict[str, float]]:
        """Return the rows [T, B, ...] for the losses, and metrics."""
        estimates = self.estimate(batch)
        value = estimates.value[:-1]
        target = estimates.residual + value
        metrics = {"value/explained_variance": ops.explained_variance(value, target), "value/mean": float(target.mean())}
        if self.config.popart:
            self.returns.update_preserving(target, agent.linear_layer(self.critic, self.value_layer))
        else:
            self.returns.update(target)
        value, target = self.returns.normalise(value), self.returns.normalise(target)
        raw, extras, advantage_metrics = self.advantage(batch, estimates)
        advantage = self.normalise_advantages(raw, batch.has_choice)
        return Minibatch.of_batch(batch, value, target, raw, advantage, extras), metrics | advantage_metrics

    def normalise_advantages(
        self, advantage: Float[Tensor, "L M N"], has_choice: Bool[Tensor, "L M N"]
    ) -> Float[Tensor, "L M N"]:
        """Return the advantages for the policy's loss."""
        norm = self.config.adv_norm
        return advantage if norm == "none" else ops.normalise_advantage(advantage, has_choice, norm == "agent")

    def estimate(self, batch: Batch) -> CriticEstimates:
        """Return the critic's estimates before the value normaliser moves, in the reward's unit."""
        value = self.returns.restore(self.normalised_values(batch.obs, batch.state))
        return CriticEstimates(value, self.return_residual(batch, self.critic_reward(batch), value))

    def return_residual(
        self, batch: Batch, reward: Float[Tensor, "T B K"], value: Float[Tensor, "T_1 B K"]
    ) -> Float[Tensor, "T B K"]:
        """Return the estimated return less V, in the reward's unit: GAE."""
        return ops.gae(reward, value, batch.terminated, batch.truncated, self.config.gamma, self.config.gae_lambda)

    def advantage(
        self, batch: Batch, estimates: CriticEstimates
    ) -> tuple[Float[Tensor, "T B N"], dict[str, Tensor], dict[str, float]]:
        """Return each agent's advantage A^i in the reward's unit, extras of the rows (each [T, B, ...]), and metrics."""
        return estimates.residual.expand_as(batch.reward), {}, {}

    def critic_loss(self, rows: Minibatch) -> Tensor:
        """Return the critic's loss on some rows."""
        values = self.normalised_values(rows.obs, rows.state)
        return ops.clipped_value_loss(values, rows.value, rows.target, self.config.clip_coef)

    def log_policy(self, rows: Minibatch) -> Float[Tensor, "L M N A"]:
        """Return the log-probabilities of all actions along the rows; a memory starts as it was at the first row."""
        memory = rows.extras["hidden"][0] if self.config.recurrent else None
        return self.policy_log_probs(self.actor.unroll(rows.obs, memory)[0], rows.avail)

    def step(self, rows: Minibatch) -> dict[str, float]:
        """Take one gradient step on the critic and one on the actor, side by side; return their metrics.

        Override it where they share weights.
        """
        critic = BESIDE.submit(self.step_critic, rows)
        policy = self.step_policy(self.log_policy(rows), rows, self.actor)
        return critic.result() | policy

    def step_critic(self, rows: Minibatch) -> dict[str, float]:
        """Take one gradient step on the critic; return its metrics."""
        return self._descend_critic(self.critic_loss(rows))

    def _step_critic_together(self, each: "list[tuple[Ippo[Any], float, Minibatch]]") -> dict[str, float]:
        return self._descend_critic(torch.stack([share * algorithm.critic_loss(rows) for algorithm, share, rows in each]).sum())

    def _descend_critic(self, loss: Tensor) -> dict[str, float]:
        return {"loss/critic": loss.item(), "grad_norm/critic": self._descend(loss, self.critic, self.critic_optimiser)}

    def step_policy(self, logp: Float[Tensor, "L M N A"], rows: Minibatch, actor: nn.Module) -> dict[str, float]:
        """Take one gradient step on the actor that gave the log-probabilities; return its metrics."""
        loss, metrics = self.actor_loss(logp, rows)
        return metrics | {"grad_norm/actor": self._descend(loss, actor, self.actor_optimiser)}

    def policy_loss(self, logp: Float[Tensor, "L M N"], rows: Minibatch) -> Tensor:
        """Return PPO's clipped loss for the taken actions' log-probabilities."""
        return ops.ppo_loss((logp - rows.logp).exp(), rows.advantage, rows.active, self.config.clip_coef)

    def actor_loss(self, logp: Float[Tensor, "L M N A"], rows: Minibatch) -> tuple[Tensor, dict[str, float]]:
        """Return the policy's loss less the entropy bonus, and metrics."""
        active, taken = rows.active, ops.gather_actions(logp, rows.action)
        entropy = ops.masked_mean(ops.entropy(logp), active)
        loss = self.policy_loss(taken, rows)
        change = (taken - rows.logp).detach()
        ratio = change.exp()
        clipped = ((ratio - 1).abs() > self.config.clip_coef).float()
        metrics = {
            "loss/policy": loss.item(),
            "policy/entropy": entropy.item(),
            "policy/kl": ops.masked_mean(ratio - 1 - change, active).item(),
            "policy/clipped": ops.masked_mean(clipped, active).item(),
        }
        return loss - self.config.entropy_coef * entropy, metrics

    def _descend(self, loss: Tensor, module: nn.Module, optimiser: torch.optim.Optimizer) -> float:
        optimiser.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(module.parameters(), self.config.max_grad_norm)
        optimiser.step()
        return float(norm)
