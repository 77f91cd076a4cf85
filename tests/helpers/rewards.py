"""Reward functions that the processes of the tests import: without anything else, so that these start quickly."""

import os


def dies_with_seed_2(signal):
    """End the process in one episode."""
    if signal.sumo.simulation.getOption("seed") == "2":
        os._exit(1)
    return 0.0
