"""A reward of one's own: minus the vehicles that halt at a signal.

The function gets a sumo-rl `TrafficSignal`. The simulation runs in another process, so a reward is named by its import path.

Usage: python own_reward.py [network] [decisions]
"""

import sys

import tsc_marl


def minus_queue(signal) -> float:
    """Return minus the number of halting vehicles on the lanes of a signal."""
    return -signal.get_total_queued()


if __name__ == "__main__":
    network = sys.argv[1] if len(sys.argv) > 1 else "grid2x2"
    decisions = int(sys.argv[2]) if len(sys.argv) > 2 else 120
    env = tsc_marl.make(network, reward="own_reward:minus_queue")
    observations, infos = env.reset(seed=1000)
    for _ in range(decisions):
        actions = {agent: int(infos[agent]["action_mask"].argmax()) for agent in env.agents}
        observations, rewards, terminated, truncated, infos = env.step(actions)
    env.close()
    print(f"halting vehicles at the end: {-sum(rewards.values()):.0f}")
    # The same in a training: tsc-marl train --network grid2x2 --sim.reward own_reward:minus_queue
