"""Policies that drive any network: which do, that they act the same from everywhere, and trainings that start from one."""

import dataclasses
import hashlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cli import one_line
from mlflow import MlflowClient
from test_phases import LK, PK, SK, movements

import tsc_marl
from tsc_marl import algos, deploy
from tsc_marl.config import parse
from tsc_marl.errors import UserError
from tsc_marl.paths import PRETRAINED
from tsc_marl.rollout.policies import TrainedPolicy
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.sim import engine, fingerprint, metrics, scenario
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations.movements import MovementsObservation
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking import checkpoint, tensor_file
from tsc_marl.tracking.run_folder import RunFolder
from tsc_marl.types import Spec

pytest_plugins = ("helpers.fixtures",)

SHIPPED = checkpoint.load(PRETRAINED)
QUICK = "--episodes 2 --eval-seeds 1 --baselines --workers 1 --algo.epochs 1"


@pytest.fixture
def delay(home, tmp_path, caplog):
    """Returns a policy's delay [s] on grid2x2, seed 1, by the command line."""

    def _delay(name, line=""):
        words = f"evaluate --network grid2x2 --policy {name} --eval-seeds 1 --workers 1 --out {tmp_path / 'out'}"
        assert home.main(f"{words} {line}") == 0
        return metrics.read(next((tmp_path / "out" / "grid2x2").glob("*/tripinfo_1.xml")).parent, 1, 4)["delay"]

    return _delay


def test_the_policy_acts_the_same_from_everywhere(delay, tmp_path, caplog):
    import traci

    expected = delay("pretrained")
    line = next(record.getMessage() for record in caplog.records if "pretrained" in record.getMessage())
    assert line.startswith(f"grid2x2: the policy of pretrained learned in {SHIPPED.origin}: ")
    assert "yellow_s 2" in line
    assert "(here" not in line
    policy = tsc_marl.load_policy("pretrained")
    assert tsc_marl.evaluate("grid2x2", [policy], seeds=[1], workers=1).mean() == {policy.name: expected}
    scene = scenario.load("grid2x2")
    traci.start([engine.binary("sumo"), *engine.command(scene, 1, tmp_path)])
    pilot = tsc_marl.Pilot(policy, "grid2x2")
    pilot.step(traci)
    for _ in range(scene.duration_s):
        traci.simulationStep()
        pilot.step(traci)
    traci.close()
    assert metrics.read(tmp_path, 1, 4)["delay"] == expected


def test_another_timing_is_said_and_a_policy_can_sample(delay, tmp_path, caplog):
    delay("pretrained", "--timing-preset field --sampling")
    assert "yellow_s 2 (here 3)" in caplog.text
    rows = json.loads((tmp_path / "out" / "grid2x2" / "metrics.json").read_text())["results"]
    assert list(rows) == ["pretrained", "pretrained, sampling"]
    assert len({of[0]["delay"] for of in rows.values()}) == 2


def test_a_policy_that_samples_repeats_its_seed():
    env = Task("grid2x2", sim=SimConfig(observation="movements")).env()

    def phases(**how):
        driver, played = dataclasses.replace(SHIPPED.policy("grid2x2"), **how).start(env, 3), []
        for _ in range(80):
            played.append(driver.act())
            env.step(played[-1])
        env.close()
        return np.array(played)

    assert (phases(samples=True) == phases(samples=True)).all()
    assert (phases(samples=True) != phases()).any()


def test_a_loaded_policy_drives_the_environment_of_another_network():
    policy = tsc_marl.load_policy("pretrained", network="grid2x2")
    with pytest.raises(UserError, match=r"reads observation movements of grid2x2, \(4, \d+\); got \(4, 3\); load it with"):
        policy.act(np.zeros((4, 3), dtype=np.float32), np.ones((4, 4), dtype=bool))
    env = tsc_marl.make("grid2x2", observation="movements")
    inside = Task("grid2x2", sim=SimConfig(observation="movements")).env()
    try:
        observations, infos = env.reset(seed=3)
        assert all(infos[agent]["action_mask"][phase] for agent, phase in policy.choose(observations, infos).items())
        driver = policy.policy.start(inside, 3)
        for _ in range(20):
            actions = driver.act()
            assert policy.act(inside.obs, inside.avail).tolist() == actions.tolist()
            inside.step(actions)
    finally:
        env.close()
        inside.close()


def test_the_file_for_other_programs_drives_other_networks_too(tmp_path):
    task = Task("cross", sim=SimConfig(observation="movements"))
    env = task.env()
    env.reset(1)
    env.close()
    spec, path = spec_from_env(env), tmp_path / "policy.pt"
    deploy.save(path, SHIPPED.policy("cross"), spec)
    obs = {"obs": env.obs[None], "avail": env.avail[None]}
    loaded, expected = deploy._load_pyfunc(str(path)), deploy.Trained(SHIPPED.policy("cross"), spec).predict(obs)
    assert loaded.predict(obs).tolist() == expected.tolist()
    for name in ("link", "real", "serves", "phase_real", "onward"):
        assert torch.equal(getattr(loaded.spec.movements, name), getattr(spec.movements, name))
    here, there = tsc_marl.load_policy(path, network="grid2x2"), tsc_marl.load_policy("pretrained", network="grid2x2")
    given = np.random.default_rng(0).random((4, here._actor.spec.obs_dim), dtype=np.float32), np.ones((4, 4), dtype=bool)
    assert here.act(*given).tolist() == there.act(*given).tolist()


@pytest.mark.parametrize("name", algos.available())
def test_which_algorithms_are_portable(name):
    """All whose agents share parameters; critics of a network's size stay behind, and say nothing elsewhere."""
    kind = algos.find(name)

    def spec(n):
        size = 6 * LK + 4 * PK + SK
        return Spec("x", tuple(map(str, range(n))), 4, size, n * size + 1, ((),) * n, movements(n))

    if name in ("happo", "hatrpo"):
        assert not TrainedPolicy(name, kind.Config(), {}, SimConfig("movements")).portable
        return
    config = kind.Config(sharing="full")
    learned = kind(spec(2), config)
    policy = TrainedPolicy(name, config, learned.state_dict(), SimConfig("movements"))
    assert policy.portable
    elsewhere = policy.algorithm(spec(7))
    for key, weight in learned.policy_state().items():
        assert torch.equal(elsewhere.state_dict()[key], weight)
    assert policy.fits_wholly(elsewhere) == (name not in ("coma", "maddpg", "qmix", "qtran"))
    assert not replace(policy, sim=SimConfig("lanes")).portable
    assert not replace(policy, sim=None).portable
    if name != "mat":
        assert not replace(policy, config=kind.Config(sharing="none")).portable


@pytest.mark.parametrize("verb", ["evaluate", "explain", "train"])
def test_a_policy_of_one_network_is_refused_elsewhere(home, tmp_path, capsys, verb):
    path = tmp_path / "own.pt"
    checkpoint.save(replace(SHIPPED, network="cross", others={}, config=SHIPPED.config | {"sharing": "none"}), path)
    option = f"--start-from {path} {QUICK}" if verb == "train" else f"--policy {path}"
    assert home.main(f"{verb} --network grid2x2 {option}") == 2
    line = one_line(capsys.readouterr().err)
    assert f"the policy of {SHIPPED.algorithm} was trained on cross, not grid2x2; use the same, or train there" in line
    assert "has --sim.observation movements and --algo.sharing full" in line
    with pytest.raises(UserError, match="was trained on cross, not grid2x2"):
        tsc_marl.evaluate("grid2x2", [tsc_marl.load_policy(path)], seeds=[1], workers=1)
    assert not (home.folder / "runs").exists()


def test_another_version_of_the_observation_is_refused(home, tmp_path, capsys):
    new, old, version = tmp_path / "new.pt", tmp_path / "old.pt", MovementsObservation.version
    checkpoint.save(replace(SHIPPED, observation_version=version + 1), new)
    content = {name: value for name, value in vars(SHIPPED).items() if name != "observation_version"}
    tensor_file.save(old, {"format": checkpoint.FORMAT, **content}, "")
    assert checkpoint.load(old).observation_version == 1
    learned = f"the policy of {SHIPPED.algorithm} learned with version {{}} of observation movements; expected version {version}"
    assert home.main(f"evaluate --policy {old} --network cross") == 2
    assert learned.format(1) in one_line(capsys.readouterr().err)
    says = f"{learned.format(version + 1)}; train again"
    lines = [f"evaluate --policy {new}", f"explain --policy {new}", f"train --start-from {new} {QUICK}"]
    for line in lines:
        assert home.main(f"{line} --network cross") == 2
        assert says in one_line(capsys.readouterr().err)
    deploy.save(tmp_path / "policy.pt", checkpoint.load(new).policy("cross"), Spec("x", ("a",), 2, 3, 4, ((),)))
    with pytest.raises(UserError, match=says):
        deploy.load(tmp_path / "policy.pt")


def test_a_training_starts_at_the_given_weights(home, capsys, caplog, tmp_path):
    assert home.main(f"train --network grid2x2 --start-from pretrained {QUICK} --baselines pretrained") == 0
    assert re.search(r"│ pretrained +│ +\d", capsys.readouterr().out)
    assert f"{SHIPPED.algorithm} starts from pretrained (" in caplog.text
    assert "actor, critic, effects, online_effects taken; all else, such as optimisers and normalisers, is new" in caplog.text
    folder = RunFolder(home.training).training(SHIPPED.algorithm, 0)
    first, last = checkpoint.load(folder.snapshot(0)), checkpoint.load(folder.checkpoint)
    given, begun = SHIPPED.training["weights"], first.training["weights"]
    for name, weight in given.items():
        taken = name.startswith(("actor.", "critic.", "effects."))
        assert torch.equal(begun[name], weight if taken else torch.zeros_like(begun[name]))
    assert any(not torch.equal(last.training["weights"][name], begun[name]) for name in given)
    assert not first.training["optimisers"]["actor_optimiser"]["state"]
    assert last.origin.endswith(f" on grid2x2, after {SHIPPED.origin}")
    (run,) = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}").search_runs(["1"], "tags.kind = 'training'")
    digest = hashlib.sha256(PRETRAINED.read_bytes()).hexdigest()[:16]
    for values in (run.data.tags, run.data.params):
        assert (values["start_from"], values["start_digest"]) == ("pretrained", digest)
    capsys.readouterr()
    evaluate = "evaluate --network cross --eval-seeds 1 --workers 1 --out"
    assert home.main(f"{evaluate} {tmp_path / 'out'} --policy {SHIPPED.algorithm}") == 2
    line = one_line(capsys.readouterr().err)
    assert line.endswith(f"or give the id of a run that drives any network: {run.info.run_id} (grid2x2)\n")
    assert home.main(f"{evaluate} {tmp_path / 'out'} --policy {run.info.run_id}") == 0
    assert f"learned in 2 episodes with {SHIPPED.algorithm} on grid2x2" in caplog.text
    assert home.main(f"release --network grid2x2 --policy {SHIPPED.algorithm} --out {tmp_path / 'small.safetensors'}") == 0
    small = checkpoint.load(tmp_path / "small.safetensors")
    assert small.training.keys() == {"weights"}
    assert all(torch.equal(small.training["weights"][name], weight) for name, weight in last.training["weights"].items())
    release = f"release --network grid2x2 --policy {folder.checkpoint} --out {tmp_path / 'mean.safetensors'} --mean-of"
    assert home.main(f"{release} 2") == 0
    mean = checkpoint.load(tmp_path / "mean.safetensors").training["weights"]
    for name, weight in last.training["weights"].items():
        assert torch.allclose(mean[name], (first.training["weights"][name] + weight) / 2)
    capsys.readouterr()
    assert home.main(f"{release} 3") == 2
    assert f"checkpoint.pt with 2 snapshots; {folder.checkpoint} has 1" in one_line(capsys.readouterr().err)


@pytest.mark.sumo
def test_a_resumed_training_starts_from_the_same_file(home, tmp_path, capsys, monkeypatch):
    path, version = tmp_path / "mine.pt", MovementsObservation.version
    checkpoint.save(SHIPPED, path)
    assert home.main(f"train --network cross --start-from {path} {QUICK}") == 0
    folder = RunFolder(home.training)
    whole = checkpoint.load(folder.training(SHIPPED.algorithm, 0).checkpoint)
    path.unlink()
    folder.training(SHIPPED.algorithm, 0).checkpoint.unlink()  # as if killed before the first checkpoint
    assert home.main(f"train --resume {folder.name}") == 0
    again = checkpoint.load(folder.training(SHIPPED.algorithm, 0).checkpoint)
    assert all(torch.equal(again.training["weights"][name], weight) for name, weight in whole.training["weights"].items())
    with monkeypatch.context() as patch:
        patch.setattr(MovementsObservation, "version", version + 1)
        assert home.main(f"train --resume {folder.name}") == 2
    says = f"has observation_version {version}, this run {version + 1}; remove it to start anew"
    assert says in one_line(capsys.readouterr().err)
    folder.training(SHIPPED.algorithm, 0).checkpoint.unlink()
    checkpoint.save(replace(SHIPPED, seed=9), folder.start)
    assert home.main(f"train --resume {folder.name}") == 2
    assert re.search(r"start.pt has sha256 \w+…; expected \w+…", one_line(capsys.readouterr().err))


@pytest.mark.sumo
def test_a_critic_of_other_widths_starts_anew(home, caplog):
    assert home.main(f"train --network cross --start-from pretrained {QUICK} --algo.critic-hidden 32 32") == 0
    assert "actor taken; all else" in caplog.text


@pytest.mark.sumo
def test_another_algorithm_takes_the_actor_and_the_shapes(home, caplog):
    """With steps too small to change a weight, it ends with the actor that it started from."""
    line = f"train --network cross --start-from pretrained --algos mappo jointq {QUICK} --algo.lr 1e-30"
    assert home.main(line) == 0
    for name in ("mappo", "jointq"):
        assert f"{name} starts from pretrained" in caplog.text
        last = checkpoint.load(RunFolder(home.training).training(name, 0).checkpoint)
        assert last.config["hidden"] == SHIPPED.config["hidden"]
        assert last.config["gae_lambda"] == parse(["--algos", name]).algo[name].gae_lambda
        actor = {key: weight for key, weight in SHIPPED.training["weights"].items() if key.startswith("actor.")}
        assert all(torch.equal(last.training["weights"][key], weight) for key, weight in actor.items())


def damaged(path):
    data = bytearray(PRETRAINED.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "--start-from pretrained --algo.hidden 32 32",
            f"has algo.hidden {SHIPPED.config['hidden']}; got (32, 32): leave algo.hidden out",
        ),
        (
            "--start-from pretrained --sim.observation lanes",
            "has sim.observation movements; got lanes: leave sim.observation out",
        ),
        ("--start-from pretrained --algo.sharing none", "has algo.sharing full; got none"),
        (
            "--start-from pretrained --algos iql",
            f"pretrained is a policy of {SHIPPED.algorithm}; got algos iql with another actor: give coma ia2c ippo ippo_nbr jo",
        ),
        ("--start-from pretrained --algos ippo happo", "got algos happo with another actor"),
        ("--start-from max_pressure", "max_pressure is a classical controller, which has no checkpoint"),
        ("--start-from pretrainet", "controller pretrainet not found; did you mean pretrained?"),
        ("--start-from {damaged}", "cannot be read (ValueError: its content differs from its checksum sha256)"),
        ("--start-from nix.pt", "checkpoint nix.pt does not exist"),
        ("--start-from", "Missing value for argument '--start-from'"),
        ("--resume x --start-from pretrained", "--resume x keeps the settings of that run; leave out --network --start-from"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(home, tmp_path, capsys, line, says):
    damaged(tmp_path / "bad.pt")
    assert home.main(f"train --network cross {line.format(damaged=tmp_path / 'bad.pt')}") == 2
    out, err = capsys.readouterr()
    assert says in one_line(err)
    assert out == ""
    assert not (home.folder / "runs").exists()


def test_a_pilot_refuses_signals_of_another_training():
    own = replace(SHIPPED, network="cross", others={}, config=SHIPPED.config | {"sharing": "none"})
    env = Task("cross").env()
    signals = fingerprint.of_signals(env.net)
    policy = replace(own.policy("cross"), signals=signals)
    saved = tsc_marl.load_policy("pretrained")
    saved.policy, saved.network = policy, "grid2x2"
    with pytest.raises(UserError, match=r"learned on other signals than .*new: A1, B0, B1;"):
        tsc_marl.Pilot(saved, "grid2x2")


def test_the_shipped_policy_is_small_and_whole():
    assert PRETRAINED.stat().st_size < 1e6
    assert SHIPPED.training.keys() == {"weights"}
    assert SHIPPED.policy("any town at all").portable
    assert Timing(**SHIPPED.timing)
