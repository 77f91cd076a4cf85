"""Our simple_spread against MPE2's, and the returns that need no learning."""

import pytest
import torch
from mpe2 import simple_spread_v3
from torch.testing import assert_close

from tsc_marl.benchmarks.mpe import STEPS, N, Spread, scripted


@pytest.mark.parametrize("seed", range(5))
def test_the_same_numbers_as_mpe2(seed):
    theirs = simple_spread_v3.parallel_env(N=N, local_ratio=0.5, max_cycles=STEPS)
    seen, _ = theirs.reset(seed=seed)
    world = theirs.unwrapped.world
    ours = Spread(1)
    if seed > 2:  # close together, so that they collide
        for agent in world.agents:
            agent.state.p_pos *= 0.1
        seen = {agent.name: theirs.unwrapped.scenario.observation(agent, world) for agent in world.agents}
    ours.place = torch.tensor([[agent.state.p_pos.tolist() for agent in world.agents]])
    ours.landmarks = torch.tensor([[mark.state.p_pos.tolist() for mark in world.landmarks]])
    draw = torch.Generator().manual_seed(seed)
    collided = False
    for _ in range(STEPS):
        rows = torch.stack([torch.as_tensor(seen[name], dtype=torch.float) for name in sorted(seen)])
        assert_close(ours.observe()[0][0], rows, atol=1e-4, rtol=1e-4)
        action = torch.randint(5, (1, N), generator=draw)
        seen, rewards, _, _, _ = theirs.step({f"agent_{i}": int(a) for i, a in enumerate(action[0])})
        reward, _ = ours.step(action)
        assert_close(reward[0], torch.tensor([rewards[f"agent_{i}"] for i in range(N)]), atol=1e-4, rtol=1e-4, check_dtype=False)
        collided |= len(set(rewards.values())) > 1 or min(rewards.values()) < -3
    assert seed <= 2 or collided


def test_random_and_greedy_assignment_return_what_others_measured():
    assert scripted(4096, 1, random=True).mean().item() == pytest.approx(-230, abs=5)
    assert scripted(4096, 1, random=False).mean().item() == pytest.approx(-122, abs=4)
