"""MAT-Dec (Wen et al. 2022, arXiv 2205.14953): a transformer over all agents estimates the values; each agent acts alone.

The ablation of `mat` without its decoder: PPO with one perceptron per agent. An agent acts on its own observation.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

from jaxtyping import Float
from torch import Tensor, nn

from tsc_marl.algos.base import PpoConfig
from tsc_marl.algos.ippo import Ippo
from tsc_marl.bounds import Count, Positive, Widths
from tsc_marl.errors import UserError
from tsc_marl.nn import agent, phase_transformer, transformer
from tsc_marl.types import Batch, Spec

MatDecSettings = TypeVar("MatDecSettings", bound="MatDecConfig")


@dataclass(frozen=True)
class MatDecConfig(PpoConfig):
    """Settings of PPO with a transformer critic."""

    lr: Positive = 5e-4
    """Learning rate (Adam)."""
    clip_coef: Positive = 0.05
    """Clip radius of the policy ratio and of the value's move."""
    critic_hidden: Widths = (64,)
    """Widths of the encoder's blocks, all the same."""
    sharing: agent.Sharing = "none"
    """Which agents' actors share parameters; the encoder is one, with a one-hot id unless this is `full_no_id`."""
    heads: Count = 1
    """Attention heads; divides the blocks' width."""
    mat_value: Literal["per_agent", "mean"] = "per_agent"
    """Each agent's advantage from its own V^m, or one for all from the mean of the V^m."""
    reward: Literal["team", "own"] = "team"
    """The reward that each agent learns from: the sum over agents, or its own."""

    def __post_init__(self) -> None:
        """Refuse widths that differ, heads that do not divide the width, and a mean value of own rewards."""
        super().__post_init__()
        widths = self.critic_hidden
        if len(set(widths)) > 1:
            raise UserError(f"algo.critic_hidden must name one width for all blocks; got {widths}")
        if widths[0] % self.heads:
            raise UserError(f"algo.heads must divide the width of algo.critic_hidden {widths}; got {self.heads}")
        if self.mat_value == "mean" and self.reward == "own":
            raise UserError("algo.mat_value mean is the team's value; got algo.reward own, set it to team")


class MatDec(Ippo[MatDecSettings]):
    """PPO on the team's reward with values from an encoder of all observations."""

    Config = MatDecConfig
    value_layer = "value.head"

    def __init__(self, spec: Spec, config: MatDecSettings) -> None:
        super().__init__(spec, config)
        self.value_scope = config.reward

    def build_critic(self) -> transformer.Encoder | phase_transformer.SignalEncoder:
        """Return the encoder."""
        spec, config = self.spec, self.config
        if spec.movements is not None:
            return phase_transformer.SignalEncoder(spec.movements, config.critic_hidden, config.heads)
        with_id = config.sharing != "full_no_id"
        return transformer.Encoder(spec.n_agents, spec.obs_dim, config.critic_hidden, config.heads, with_id)

    def values_of(self, critic: nn.Module, obs: Float[Tensor, "*M N F"], state: Float[Tensor, "*M S"]) -> Float[Tensor, "*M K"]:
        """Return V^m(o^1 .. o^n) per agent, or their mean; the state is not used."""
        value = critic(obs)
        return value.mean(-1, keepdim=True) if self.config.mat_value == "mean" else value

    def critic_reward(self, batch: Batch) -> Float[Tensor, "T B K"]:
        """Return the team's reward, once per value, or each agent's own."""
        if self.config.reward == "own":
            return batch.reward
        return batch.team_reward if self.config.mat_value == "mean" else batch.team_reward.expand_as(batch.reward)
