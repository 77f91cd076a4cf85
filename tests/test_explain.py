"""The table of a policy's estimates: the critic's own numbers, of the episode that was played."""

import csv
import json

import numpy as np
import pytest

pytest_plugins = ["helpers.fixtures"]

SEED = 1
GAMMA, LAM = 0.98, 0.5


@pytest.fixture(scope="module")
def trained(new_home):
    home = new_home()
    settings = f"--episodes 4 --workers 2 --eval-seeds {SEED} --baselines --algo.gamma {GAMMA}"
    joint = f"--algo.gae_lambda {LAM} --algo.epochs 2 --sim.observation lanes"
    assert home.main(f"train --net grid2x2 --algos jointq {settings} {joint} --algo.others_trust full") == 0
    assert home.main(f"train --net grid2x2 --algos mappo {settings} {joint}") == 0
    assert home.main(f"train --net grid2x2 --algos iql maddpg {settings} --algo.gradient_steps 2") == 0
    other = "--sim.reward queue --sim.observation sumo-rl --timing field"
    assert home.main(f"train --net grid2x2 --algos ippo {settings} {other}") == 0
    return home


def explained(home, name, folder):
    assert home.main(f"explain --net grid2x2 --run {name} --seed {SEED} --out {folder}") == 0
    with (folder / f"decisions_grid2x2_{name}.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (folder / f"decisions_grid2x2_{name}.png").stat().st_size > 10_000
    return rows


def column(rows, name):
    """[T, N], the signals in the order of the first rows."""
    n = len({row["signal"] for row in rows})
    return np.array([float(row[name]) for row in rows]).reshape(-1, n)


def test_the_shipped_policy_is_called_by_its_name(trained, tmp_path, capsys):
    explained(trained, "pretrained", tmp_path)
    assert f"pretrained on grid2x2, seed {SEED}: delay" in capsys.readouterr().out


def test_the_table_of_jointq(trained, tmp_path, capsys):
    rows = explained(trained, "jointq", tmp_path)
    text = capsys.readouterr().out
    (file,) = trained.folder.glob("runs/*/jointq-s0/evaluation.json")
    (episode,) = json.loads(file.read_text(encoding="utf-8"))["results"]["jointq"]
    assert f"delay {episode['delay']:.1f} s" in text  # the same episode as the evaluation's
    per_phase = {
        name: np.array([[float(row[f"{name}_{a}"] or 0) for a in range(4)] for row in rows])
        for name in ("probs", "own", "others")
    }
    assert per_phase["probs"].sum(1) == pytest.approx(np.ones(len(rows)), abs=1e-3)
    for name in ("own", "others"):
        assert (per_phase["probs"] * per_phase[name]).sum(1) == pytest.approx(np.zeros(len(rows)), abs=1e-3)
        assert np.abs(per_phase[name]).max() > 0
        assert column(rows, name).ravel() == pytest.approx([per_phase[name][r, int(row["phase"])] for r, row in enumerate(rows)])
    assert all(int(row["choices"]) == sum(row[f"own_{a}"] != "" for a in range(4)) for row in rows)
    through, left = "{0}: straight, left yields, right; {1}: straight, left yields, right", "{0}: left; {1}: left"
    serves = [form.format(*sides) for sides in (("north", "south"), ("east", "west")) for form in (through, left)]
    assert all(row["serves"] == serves[int(row["phase"])] for row in rows)


def test_outcomes_follow_from_rewards_and_values(trained, tmp_path):
    rows = explained(trained, "jointq", tmp_path)
    reward, value, own, gae = (column(rows, name) for name in ("reward", "value", "own", "gae"))
    assert reward.sum() < 0
    surprise = reward[:-1] + GAMMA * value[1:] - value[:-1]
    assert gae[:-1] == pytest.approx(surprise + GAMMA * LAM * gae[1:], abs=0.02)
    assert column(rows, "implied_reward")[:-1] == pytest.approx(value[:-1] + own[:-1] - GAMMA * value[1:], abs=0.02)
    target = reward[:-1] + GAMMA * (value[1:] + gae[1:])
    assert column(rows, "residual")[:-1] == pytest.approx(target - value[:-1] - own[:-1], abs=0.02)


@pytest.mark.sumo
def test_algorithms_with_fewer_estimates(trained, tmp_path, capsys):
    rows = explained(trained, "mappo", tmp_path)
    value = column(rows, "value")
    assert (value == value[:, :1]).all()  # the team's
    assert "own" not in rows[0]
    rows = explained(trained, "iql", tmp_path)
    assert max(column(rows, "own").ravel()) <= 0  # it takes the best, and compares with it
    assert "own effect" in capsys.readouterr().out


def test_a_policy_sees_and_is_paid_as_in_its_training(trained, tmp_path, capsys):
    rows = explained(trained, "ippo", tmp_path)
    text = capsys.readouterr().out
    assert "note: the policy of ippo learned with other signal timing: yellow_s 3 (here 2), all_red_s 2" in text
    queues = -column(rows, "reward")
    assert (queues == queues.round()).all()  # halting vehicles
    (file,) = trained.folder.glob("runs/*/ippo-s0/evaluation.json")
    (expected,) = json.loads(file.read_text(encoding="utf-8"))["results"]["ippo"]
    measure = f"evaluate --net grid2x2 --controller ippo max_pressure --eval-seeds {SEED} --timing field --out {tmp_path}"
    assert trained.main(measure) == 0
    assert "note:" not in capsys.readouterr().out
    results = json.loads((tmp_path / "grid2x2/metrics.json").read_text(encoding="utf-8"))["results"]
    assert results["ippo"][0]["delay"] == expected["delay"] != results["max_pressure"][0]["delay"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--run max_pressure", "max_pressure is a classical controller, which values nothing; give a trained policy"),
        ("--run maddpg", "maddpg values no phase at a time, so there is nothing to explain"),
        ("--run coma", "no finished run of coma on grid2x2"),
        ("--run jointq --out /dev/null/x", "out /dev/null/x cannot be made"),
        ("--run jointq --seed 1000000", "seed must lie in 0 .. 999999"),
    ],
)
def test_bad_input(trained, capsys, options, text):
    assert trained.main(f"explain --net grid2x2 {options}") == 2
    assert text in capsys.readouterr().err
