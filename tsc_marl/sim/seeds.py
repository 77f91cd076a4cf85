"""Random seeds: which range serves what, and the streams of random numbers within an episode.

| SUMO seeds | use |
|---|---|
| 0 to 999 999 | evaluation; 1000 to 1009 by default |
| 2000 to 2003 | development: measurements that choose between things, and branches |
| 500 000 and up | episodes of the gradient probe, which no evaluation draws by default |
| 600 000 + 100 k | drivers from a branch on, in its continuation k |
| 1 000 000 (s + 1) + e | episode e of the training with seed s |
| 2 000 000 000 | run that measures turning counts |
"""

import numpy as np

EVAL_SEEDS = tuple(range(1000, 1010))
"""SUMO seeds of an evaluation, unless others are given."""
DEVELOPMENT_SEEDS = (2000, 2001, 2002, 2003)
"""SUMO seeds of measurements during development, and of branches, unless others are given."""
PROBE_SEEDS = 500_000
"""SUMO seed of the gradient probe's first episode."""
BRANCH_SEEDS = 600_000
"""Seed of the first continuation of a branch; the drivers take one for each of SUMO's generators."""
TRAIN_SEEDS = 1_000_000
"""SUMO seeds of training start here; seeds of evaluations lie below, so the two never meet."""
WARM_UP_SEED = 2_000_000_000
"""SUMO seed of the run in which a controller counts turning vehicles."""

DEMAND, DETECTOR_FAULTS, STUCK_SIGNALS, LOOPS, CONNECTED, TRAIN_STRESS = range(1, 7)
"""Streams of random numbers of one episode."""
JAM_START, JAM_PHASES = 7, 8
"""Further streams: whether an episode starts jammed, and the phases that are held then."""


def train_seed(run_seed: int, episode: int) -> int:
    """Return the SUMO seed of a training episode, a different one for every episode of every run seed."""
    return TRAIN_SEEDS * (run_seed + 1) + episode


def continuation_seed(number: int) -> int:
    """Return the seed of a continuation of a branch."""
    return BRANCH_SEEDS + 100 * number


def turn(run_seed: int, episode: int, networks: int) -> int:
    """Return the number of the network of a training episode: each round goes through all, in an order of its own."""
    number, place = divmod(episode, networks)
    return int(np.random.default_rng([run_seed, number]).permutation(networks)[place])


def stream(seed: int, number: int) -> np.random.Generator:
    """Return the random numbers of one stream of an episode.

    Args:
        seed: SUMO seed of the episode.
        number: one of those above, such as DEMAND.
    """
    return np.random.default_rng([seed, number])
