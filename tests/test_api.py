"""`import tsc_marl`: what it offers, and that plain scripts need no guard for the processes that simulate."""

import subprocess
import sys

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import tsc_marl
from tsc_marl import old_options
from tsc_marl.paths import PRETRAINED
from tsc_marl.sim import engine, metrics, scenario
from tsc_marl.tracking.run_folder import RunFolder
from tsc_marl.training import settings

pytest_plugins = ("helpers.fixtures",)


@pytest.fixture(scope="module")
def trained(new_home):
    home = new_home()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("TSC_MARL_HOME", str(home.folder))
        yield tsc_marl.train("cross", ["ippo", "iql"], episodes=2, eval_seeds=(1,), workers=1)


def run_python(script, *arguments, stdin=None):
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", sorted(tsc_marl.__all__))
def test_public_names_exist_and_are_documented(name):
    value = getattr(tsc_marl, name)
    assert name.startswith("__") or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = tsc_marl.nothing_such


def test_import_loads_nothing_heavy():
    program = "import sys, tsc_marl; print(sorted({'torch', 'mlflow', 'numpy', 'pettingzoo'} & sys.modules.keys()))"
    assert run_python("-c", program).stdout.strip() == "[]"


SCRIPT = """
import tsc_marl
from tsc_marl import old_options
env = tsc_marl.make("cross")
observations, infos = env.reset(seed=1)
env.step({agent: int(info["action_mask"].argmax()) for agent, info in infos.items()})
env.close()
print(tsc_marl.evaluate("cross", ["max_pressure"], seeds=[1], workers=1).to_frame()["delay"].item())
"""


TRAINING = "tsc_marl.train('cross', ['ippo'], episodes=2, eval_seeds=(1,), workers=1)\n"


@pytest.mark.sumo
def test_a_script_needs_no_guard_and_training_and_evaluation_print_nothing(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "script.py").write_text(SCRIPT + TRAINING, encoding="utf-8")
    as_file, as_input = run_python(tmp_path / "script.py"), run_python("-", stdin=SCRIPT)
    assert float(as_file.stdout) == float(as_input.stdout) > 0, as_file.stderr + as_input.stderr
    assert "ippo" not in as_file.stderr


def test_single_signal_passes_gymnasiums_check():
    env = tsc_marl.make_single("cross")
    try:
        check_env(env, skip_render_check=True)
    finally:
        env.close()


def test_single_signal_is_one_of_the_network_and_others_drive_the_rest():
    env = tsc_marl.make_single("grid2x2", "B0")
    try:
        obs, info = env.reset(seed=5)
        assert obs in env.observation_space
        total, ended, decisions = 0.0, False, 0
        while not ended:
            assert np.array_equal(env.action_masks(), info["action_mask"].astype(bool))
            obs, reward, terminated, ended, info = env.step(int(info["action_mask"].argmax()))
            assert not terminated
            total, decisions = total + reward, decisions + 1
        assert decisions == 120
        assert total < 0
    finally:
        env.close()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tsc_marl.make("gird2x2"), "did you mean grid2x2"),
        (lambda: tsc_marl.make("cross", timing="feild"), "did you mean field"),
        (lambda: tsc_marl.make("cross", reward="__main__:mine"), "__main__:mine"),
        (lambda: tsc_marl.make_single("grid2x2"), "A0, A1, B0, B1"),
        (lambda: tsc_marl.make_single("grid2x2", "A9"), "A9"),
        (lambda: tsc_marl.make_single("grid2x2", "A0", others="fixed_time"), "fixed_time"),
        (lambda: tsc_marl.evaluate("cross", seeds=[1_000_000]), "1000000"),
        (lambda: tsc_marl.evaluate("cross", ["max_presure"], seeds=[1]), "did you mean max_pressure"),
        (lambda: tsc_marl.train("cross", ["ippo"], timing="feild"), "did you mean field"),  # the option's old name
    ],
)
def test_wrong_input_is_one_line(call, says, home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(tsc_marl.UserError, match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_evaluation_has_a_row_per_policy_and_seed():
    result = tsc_marl.evaluate("cross", {"pressure": "max_pressure", "fixed": "fixed_time"}, seeds=[1, 2], workers=1)
    frame = result.to_frame()
    assert list(zip(frame["policy"], frame["seed"], strict=True)) == [
        ("pressure", 1), ("pressure", 2), ("fixed", 1), ("fixed", 2),
    ]  # fmt: skip
    assert result.mean()["pressure"] == pytest.approx(frame["delay"][:2].mean())
    assert "pressure" in repr(result)


def test_a_metric_of_ones_own_stands_beside_the_others(tmp_path, monkeypatch):
    (tmp_path / "own_metric.py").write_text(
        "from tsc_marl import Metric\n\nclass Lost(Metric):\n    unit = 's'\n\n"
        "    def __call__(self, episode):\n        return episode.trips.delay_s.mean()\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    frame = tsc_marl.evaluate("cross", ["max_pressure"], [1], workers=1, metrics=["own_metric:Lost"]).to_frame()
    assert frame["own_metric.Lost"].tolist() == pytest.approx(frame["delay"].tolist())


def test_training_returns_curves_evaluation_and_policies(trained):
    assert trained.runs == ["ippo-s0", "iql-s0"]
    assert set(trained.history()["run"]) == {"ippo-s0", "iql-s0"}
    assert trained.evaluation.mean()["ippo"] > 0
    with pytest.raises(tsc_marl.UserError, match="ippo-s0, iql-s0"):
        trained.policy()


def test_training_uses_the_option_names_of_today(trained):
    words = settings.read_command(RunFolder(trained.folder))
    assert old_options.replace(words) == words


@pytest.mark.parametrize("run", ["ippo-s0", "iql-s0"])
def test_a_policy_is_the_same_from_every_place(trained, run):
    algorithm = run.partition("-")[0]
    places = [trained.folder / run, trained.folder / run / "checkpoint.pt", trained.folder / run / "policy.pt", algorithm]
    results = tsc_marl.evaluate("cross", {str(i): tsc_marl.load_policy(p) for i, p in enumerate(places)}, seeds=[1], workers=1)
    assert set(results.mean().values()) == {trained.evaluation.mean()[algorithm]}


def test_a_policy_drives_the_environment_as_in_the_evaluation(trained):
    policy = trained.policy("ippo-s0")
    env = tsc_marl.make("cross")
    try:
        observations, infos = env.reset(seed=1)
        chosen = policy.choose(observations, infos)
        assert set(chosen) == set(env.agents)
        assert all(infos[agent]["action_mask"][phase] for agent, phase in chosen.items())
    finally:
        env.close()


def test_own_traci_loop_gives_the_delay_of_the_evaluation(trained, tmp_path):
    import traci

    policy, scene = trained.policy("ippo-s0"), scenario.load("cross")
    traci.start([engine.binary("sumo"), *engine.command(scene, 1, tmp_path)])
    pilot = tsc_marl.Pilot(policy, "cross")
    pilot.step(traci)
    for _ in range(scene.duration_s):
        traci.simulationStep()
        pilot.step(traci)
    traci.close()
    assert metrics.read(tmp_path, 1, 1)["delay"] == trained.evaluation.mean()["ippo"]


def test_a_released_file_needs_no_store(tmp_path, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    own = tmp_path / "mine.safetensors"
    own.write_bytes(PRETRAINED.read_bytes())
    loaded, shipped = (tsc_marl.load_policy(policy, network="grid2x2") for policy in (own, "pretrained"))
    assert loaded.policy.weights.keys() == shipped.policy.weights.keys()
    assert tsc_marl.load_policy(str(own)).name == "jointq"
    with pytest.raises(tsc_marl.UserError, match=r"other.safetensors"):
        tsc_marl.load_policy(tmp_path / "other.safetensors")


def test_no_finished_run_says_what_to_do(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(tsc_marl.UserError, match=r"jointq.*train"):
        tsc_marl.load_policy("jointq")
