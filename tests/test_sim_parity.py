"""With sumo-rl's observation and rewards our environment is sumo-rl's, to the last bit, illegal actions included."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tsc_marl.sim import scenario
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig

REWARDS = ("diff-waiting-time", "average-speed", "queue", "pressure")
SEED, DECISIONS = 17, 200

# sumo-rl takes libsumo only by an environment variable at import, and libsumo has one simulation: another process
THEIRS = """
import sys
import traci  # through it libsumo, which sets SUMO_HOME; libsumo itself first would leave traci empty
import numpy as np
from sumo_rl import SumoEnvironment

net, route, begin, seed, actions, out, *rewards = sys.argv[1:]
actions = np.load(actions)
result = {}
for reward in rewards:
    env = SumoEnvironment(
        net, route, begin_time=int(begin), num_seconds=3600, delta_time=5, yellow_time=2, min_green=5, reward_fn=reward,
        sumo_seed=int(seed), single_agent=False, add_system_info=False, add_per_agent_info=False, sumo_warnings=False,
    )
    observations = [env.reset()]
    paid = []
    for row in actions:
        observation, reward_of, _, _ = env.step(dict(zip(env.ts_ids, row.tolist(), strict=True)))
        observations.append(observation)
        paid.append([reward_of[name] for name in env.ts_ids])
    env.close()
    result["names"] = np.array(env.ts_ids)
    result[f"{reward}/rewards"] = np.array(paid, dtype=float)
    for name in env.ts_ids:
        result[f"{reward}/{name}"] = np.stack([o[name] for o in observations])
np.savez(out, **result)
"""


@pytest.fixture(
    scope="module", params=["cologne3", *(pytest.param(net, marks=pytest.mark.sumo) for net in ("grid4x4", "cologne8"))]
)
def both(request, tmp_path_factory):
    """The scenario, random actions among all phases, legal or not, and what sumo-rl made of them."""
    scene = scenario.load(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    n_phases = TrafficEnv(scene).n_phases
    actions = np.random.default_rng(5).integers(0, n_phases, size=(DECISIONS, len(n_phases)))
    np.save(folder / "actions.npy", actions)
    (folder / "theirs.py").write_text(THEIRS, encoding="utf-8")
    given = [scene.net, *scene.routes, str(scene.begin_s), str(SEED), "actions.npy", "out.npz", *REWARDS]
    libsumo = {**os.environ, "LIBSUMO_AS_TRACI": "1"}
    command = [sys.executable, "theirs.py", *given]
    subprocess.run(command, cwd=folder, env=libsumo, check=True, stdout=subprocess.DEVNULL)
    return scene, actions, dict(np.load(folder / "out.npz"))


@pytest.mark.parametrize("reward", REWARDS)
def test_observations_and_rewards_are_sumo_rls(both, reward):
    scene, actions, theirs = both
    env = TrafficEnv(scene, config=SimConfig(observation="sumo-rl", reward=reward))
    assert list(theirs["names"]) == list(env.names)
    observations, paid, refused = [env.reset(SEED)], [], 0
    for row in actions:
        value, _ = env.step(row)
        observations.append(env.obs)
        paid.append(value)
        refused += int((env.executed != row).sum())
    env.close()
    for i, name in enumerate(env.names):
        expected = theirs[f"{reward}/{name}"]
        ours = np.stack([obs[i] for obs in observations])
        assert np.array_equal(ours[:, : expected.shape[1]], expected), name
        assert not ours[:, expected.shape[1] :].any(), f"{name}: padding is not zero"
    assert np.array_equal(np.stack(paid), theirs[f"{reward}/rewards"])
    assert refused > DECISIONS // 10, "the actions were to include illegal ones"
    assert np.ptp(paid) > 0
    assert max(obs[:, -1].max() for obs in observations) > 0, "there was no traffic"
