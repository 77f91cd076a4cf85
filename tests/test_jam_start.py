"""Episodes that start from a jam: the same number of decisions, nothing learned from the jam, a curve of its own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.cli import one_line

from tsc_marl.rollout.jam_start import JamStart
from tsc_marl.rollout.task import Task
from tsc_marl.sim.disturbances import Disturbance

pytest_plugins = ["helpers.fixtures"]

CROSS = Task("cross")
SEED = 1_000_001


def decisions(env):
    return next(number for number in range(1, 1000) if env.step(np.zeros(len(env.names), int))[1])


def test_the_policy_takes_over_in_a_jam_and_decides_as_often():
    waiting = {}
    for jam_s in (0, 118):
        env = replace(CROSS, disturbance=Disturbance(jam_s=jam_s)).env()
        env.reset(SEED)
        assert env.now == -(-jam_s // 5) * 5
        waiting[jam_s] = env.vehicles.waiting_s.max(initial=0)
        assert decisions(env) == env.horizon == 120
        env.close()
    assert waiting[0] < 1
    assert waiting[118] > 60


def test_jams_are_drawn_from_the_seed():
    assert JamStart().apply(CROSS, SEED) is CROSS
    drawn = [JamStart(0.5, 300).apply(CROSS, SEED + i).disturbance.jam_s for i in range(200)]
    assert drawn == [JamStart(0.5, 300).apply(CROSS, SEED + i).disturbance.jam_s for i in range(200)]
    jams = [jam_s for jam_s in drawn if jam_s]
    assert 70 < len(jams) < 130
    assert 1 <= min(jams) < 40
    assert 260 < max(jams) <= 300


def test_a_training_with_jams_has_a_curve_without_them(new_home):
    """The first episode of its first update is that of a training of one episode."""
    rows, home = {}, new_home()
    for name, options in (
        ("jams", "--episodes 2 --jam-start.share 1 --jam-start.longest-s 300"), ("one", "--episodes 1 --episodes-per-update 1"),
    ):  # fmt: skip
        here = home if name == "jams" else new_home()
        settings = "--workers 1 --eval-seeds 1 --baselines --algo.epochs 1 --algo.rollout-length 0"
        assert here.main(f"train --network cross --algos ippo {settings} {options}") == 0
        (rows[name],) = here.checkpoint()["history"]
    assert (rows["jams"]["delay"], rows["jams"]["reward"]) == (rows["one"]["delay"], rows["one"]["reward"])
    assert (rows["jams"]["episode"], rows["jams"]["steps"]) == (2, 2 * rows["one"]["steps"])
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    (run,) = (run for run in runs if run.data.tags["kind"] == "training")
    (metrics,) = pd.read_csv(client.download_artifacts(run.info.run_id, "curves.csv")).to_dict("records")
    assert metrics["jam_start/episodes"] == 1
    assert metrics["jam_start/delay"] != metrics["delay_s"] == pytest.approx(rows["one"]["delay"])


def test_bad_input(home, capsys):
    assert home.main("train --network cross --algos ippo --jam-start.share 2") == 2
    assert "jam-start.share must lie in [0, 1]; got 2" in one_line(capsys.readouterr().err)
    line = "train --network cross --algos ippo --episodes 2 --episodes-per-update 1 --jam-start.share 0.5"
    assert home.main(line) == 2
    assert "jam-start.share needs at least 2 episodes-per-update" in one_line(capsys.readouterr().err)
