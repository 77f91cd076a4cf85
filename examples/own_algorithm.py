"""An algorithm of one's own: independent PPO whose signals also learn from half of the mean reward of all.

Usage: python own_algorithm.py [network] [episodes]
"""

import sys

from torch import Tensor

import tsc_marl
from tsc_marl.algos.ippo import Ippo
from tsc_marl.types import Batch


class Blended(Ippo):
    """PPO on the own reward plus half of the mean reward."""

    def critic_reward(self, batch: Batch) -> Tensor:
        """Return [T, B, N], the reward whose return the critic learns."""
        return batch.reward + 0.5 * batch.reward.mean(dim=-1, keepdim=True)


if __name__ == "__main__":  # the processes that simulate import this file
    network = sys.argv[1] if len(sys.argv) > 1 else "grid2x2"
    episodes = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    result = tsc_marl.train(network, [Blended], episodes=episodes, eval_seeds=(1000, 1001))
    print(result.evaluation)
    print(result.folder)
