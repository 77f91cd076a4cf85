"""Multi-Agent Transformer (Wen et al. 2022, arXiv 2205.14953): agents act one after the other, given the actions before.

The joint policy is the product of pi(a^m | o^1..o^n, a^1..a^{m-1}) in the fixed order of the agents. Acting takes one
decoder pass per agent; training takes one pass for all, since the actions are known. One optimiser descends
L_pi + c_V L_V - beta H. Execution is central: an agent needs all observations and the actions of the agents before it.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsc_marl import ops
from tsc_marl.algos.base import Minibatch
from tsc_marl.algos.mat_dec import MatDec, MatDecConfig
from tsc_marl.bounds import Positive, Widths
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, phase_transformer, transformer
from tsc_marl.types import Spec

Decoder = transformer.EncoderDecoder | phase_transformer.PhaseDecoder


@dataclass(frozen=True)
class MatConfig(MatDecConfig):
    """Settings of PPO with an encoder-decoder."""

    hidden: Widths = (64,)
    """Widths of the decoder's blocks, all the same as the encoder's (`critic_hidden`)."""
    sharing: agent.Sharing = "full"
    """One transformer for all agents, with a one-hot id (`full`) or without (`full_no_id`)."""
    value_weight: Positive = 1.0
    """c_V, weight of the value loss."""

    def __post_init__(self) -> None:
        """Refuse unshared parameters, a memory, and widths that differ."""
        super().__post_init__()
        if not self.sharing.startswith("full"):
            raise UserError(f"algo.sharing must be full or full_no_id, mat is one network for all agents; got {self.sharing}")
        if self.recurrent:
            raise UserError("algo.recurrent must be False, mat has no memory; got True")
        if len({*self.hidden, *self.critic_hidden}) > 1:
            raise UserError(f"algo.hidden must have the width of algo.critic_hidden {self.critic_hidden}; got {self.hidden}")


class Mat(MatDec[MatConfig]):
    """PPO on an autoregressive joint policy."""

    learns_together = False
    Config = MatConfig
    independent_softmax = False
    actor: Decoder  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, spec: Spec, config: MatConfig) -> None:
        super().__init__(spec, config)
        self.critic_optimiser = self.actor_optimiser  # the encoder is part of the actor: one optimiser has all

    def build_actor(self) -> Decoder:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the encoder-decoder."""
        encoder = super().build_critic()
        if isinstance(encoder, phase_transformer.SignalEncoder):
            return phase_transformer.PhaseDecoder(encoder, self.config.hidden, self.config.heads)
        return transformer.EncoderDecoder(encoder, self.spec.n_actions, self.config.hidden, self.config.heads)

    def build_critic(self) -> transformer.Encoder | phase_transformer.SignalEncoder:
        """Return the actor's encoder."""
        return self.actor.encoder

    def act(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], carry: Any, generator: torch.Generator | None
    ) -> tuple[Int[Tensor, "B N"], dict[str, Tensor], Any]:
        """Choose for one agent after the other: sample, or take each policy's mode when `generator` is None."""
        policies: list[Tensor] = []
        noise = torch.zeros(avail.shape)
        if generator is not None:
            noise = ops.gumbel_like(noise, generator)

        def choose(m: int, logits: Float[Tensor, "B A"]) -> Int[Tensor, "B"]:
            policies.append(ops.log_policy(logits, avail[:, m]))
            return (policies[-1] + noise[:, m]).argmax(-1)

        action = self.actor.one_by_one(obs, choose)
        if generator is None:
            return action, {}, None
        logp = torch.stack(policies, dim=1)
        return action, {"logp": ops.gather_actions(logp, action), "probs": logp.exp()}, None

    def value_estimates(
        self, obs: Float[Tensor, "B N F"], avail: Bool[Tensor, "B N A"], state: Float[Tensor, "B S"], carry: Any
    ) -> dict[str, Tensor]:
        """Return the policies, each given the likeliest phases of the agents before, and the values."""
        likely = self.act(obs, avail, carry, None)[0]
        probs = ops.log_policy(self.actor(obs, likely), avail).exp()
        return {"probs": probs, "value": self.returns.restore(self.normalised_values(obs, state))}

    def log_policy(self, rows: Minibatch) -> Float[Tensor, "L M N A"]:
        """Return the log-probabilities of all actions, each agent's given the taken actions of the agents before it."""
        return ops.log_policy(self.actor(rows.obs, rows.action), rows.avail)

    def step(self, rows: Minibatch) -> dict[str, float]:
        """Take one step on both losses at once."""
        critic_loss = self.critic_loss(rows)
        policy_loss, metrics = self.actor_loss(self.log_policy(rows), rows)
        norm = self._descend(policy_loss + self.config.value_weight * critic_loss, self.actor, self.actor_optimiser)
        return metrics | {"loss/critic": critic_loss.item(), "grad_norm/actor": norm}
