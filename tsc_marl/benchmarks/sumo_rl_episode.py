"""One episode of sumo-rl with given phases, as a program of its own: its settings are environment variables.

Arguments: network file, route file, SUMO seed, and an .npy file of the phases [T, N]. It prints the seconds that it took.
"""

import sys
import time

import numpy as np
import sumo_rl


def play(net: str, routes: str, seed: int, phases: np.ndarray) -> float:
    """Return the seconds of an episode in which the signals show these phases [T, N]."""
    env = sumo_rl.SumoEnvironment(net, routes, num_seconds=3600, sumo_seed=seed, sumo_warnings=False)
    start = time.perf_counter()
    env.reset()
    for chosen in phases:
        env.step(dict(zip(env.ts_ids, chosen.tolist(), strict=True)))
    env.close()
    return time.perf_counter() - start


if __name__ == "__main__":
    print("seconds", play(sys.argv[1], sys.argv[2], int(sys.argv[3]), np.load(sys.argv[4])))
