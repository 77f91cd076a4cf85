"""Random legal phases at every signal, through PettingZoo.

Usage: python random_loop.py [network] [decisions]
"""

import sys

import tsc_marl

network = sys.argv[1] if len(sys.argv) > 1 else "grid2x2"
decisions = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000

env = tsc_marl.make(network)
print(env)
observations, infos = env.reset(seed=1000)
total = 0.0
while env.agents and decisions:
    actions = {agent: env.action_space(agent).sample(infos[agent]["action_mask"]) for agent in env.agents}
    observations, rewards, terminated, truncated, infos = env.step(actions)
    total += sum(rewards.values())
    decisions -= 1
env.close()
print(f"vehicle-seconds lost: {-total:.0f}")
