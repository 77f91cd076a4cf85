"""The folder of `deploy`: its controller makes the program's decisions without it; what cannot be deployed is one line."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.buses import cross_with_buses
from helpers.cli import ROOT, one_line
from helpers.decisions import decisions, piloted
from helpers.networks import network_with

from tsc_marl import algos
from tsc_marl.api.pilot import Pilot
from tsc_marl.config import read_timing
from tsc_marl.deployment.recipe import signal_plan
from tsc_marl.evaluation import signal_log
from tsc_marl.evaluation.phase_log import limit_violations
from tsc_marl.paths import PRETRAINED
from tsc_marl.rollout.task import Task, spec_from_env
from tsc_marl.sim import engine, scenario
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations.movements import MovementsObservation
from tsc_marl.sim.signal_limits import NO_LIMITS, SignalLimits, of_signal
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.sim.signal_view import SignalContext
from tsc_marl.tracking import checkpoint

pytest_plugins = ("helpers.fixtures",)

SHIPPED = checkpoint.load(PRETRAINED)
ALONE = """
import os, runpy, sys
folder, seconds, example, *options = sys.argv[1:]
sys.argv = [example, folder, seconds, *options]
sys.path.insert(0, os.path.dirname(example))
runpy.run_path(example, run_name="__main__")
assert not {"torch", "tsc_marl"} & sys.modules.keys()
"""


def grid_with_detectors(folder):
    """Make grid2x2 with loops on one approach, an area on two lanes behind a signal, and a camera at two of the signals."""
    network_with(folder, "grid2x2", detectors={"files": ["d.add.xml"], "cameras": {"A0": 60, "B1": 120}})
    loops = "".join(f'<e1Detector id="{pos}" lane="A0B0_0" pos="-{pos}"/>' for pos in (5, 40))
    area = '<e2Detector id="area" lane="B0B1_0" pos="2" length="30"/>'
    (folder / "d.add.xml").write_text(f"<additional>{loops}{area}</additional>", encoding="utf-8")
    return folder


def with_random_weights(path, observation="movements", **settings):
    """Write a policy with random weights."""
    config, sim = SHIPPED.config | {"hidden": (32, 16)} | settings, SHIPPED.sim | {"observation": observation}
    task = Task("cross", sim=SimConfig(**sim))
    env = task.env()
    env.reset(1)
    env.close()
    kind = algos.find(SHIPPED.algorithm)
    torch.manual_seed(1)
    weights = kind(spec_from_env(env), kind.Config(**config)).state_dict()
    checkpoint.save(replace(SHIPPED, network="cross", others={}, config=config, sim=sim, training={"weights": weights}), path)


LIMITS = {
    "order": SignalLimits(order="fixed", min_green_s=(9, 5, None, 5), max_green_s=30),
    "own times": SignalLimits((0, 1, 2), yellow_s=4, all_red_s=1, max_green_s=(40, None, 25, None)),
    "intergreen": SignalLimits(intergreen=((None, 9, 7, None), (None,) * 4, (5, None, None, 11), (None,) * 4)),
    "none": NO_LIMITS,
}


@pytest.mark.parametrize("timing", [Timing(), Timing(yellow_s=3, all_red_s=2, min_green_s=7, max_red_s=120)])
@pytest.mark.parametrize("kind", LIMITS)
def test_a_signal_on_the_street_keeps_the_limits(kind, timing):
    """Requests at random: what may be chosen, and each light, is as in the program, and a second opinion on it."""
    pytest.importorskip("onnxruntime", reason="it is not installed; pip install tsc_marl[deploy]")
    from tsc_marl.deployment.controller import StreetSignal

    task, limits = Task("cross", timing), LIMITS[kind]
    net = replace(task.net(), signals=tuple(replace(signal, limits=limits) for signal in task.net().signals))
    (signal,), rng, shown = net.signals, np.random.default_rng(1), []
    lit = ""
    plan = json.loads(json.dumps(signal_plan(net, 0, timing, MovementsObservation(SignalContext(net, timing, 200.0)))))
    street, timer = StreetSignal(plan, vars(timing), 0), signal.timer(timing, 0)
    for now in range(3000):
        if now % timing.decision_s == 0:
            legal = timer.legal(now)
            assert street.legal(now).tolist() == legal.tolist()
            phase = timer.phase if legal[timer.phase] and rng.random() < 0.7 else int(rng.choice(np.flatnonzero(legal)))
            timer.request(phase, now)
            street.request(phase, now)
        lit = timer.pop_due_state(now) or lit
        shown.append(street.light(now))
        assert shown[-1] == lit
    assert not list(limit_violations(shown, signal.phases, limits, timing))
    assert not list(signal_log.timing_violations(shown, timing, limits=limits))
    assert signal_log.greens_ended(shown) > 100


STREETS = (
    ("grid2x2", "field", 300), ("cross", "sumo-rl", 150), ("buses", "field-priority", 300), ("seen", "field", 300),
    ("persons", "sumo-rl", 300),
)  # fmt: skip


@pytest.mark.parametrize(("network", "timing", "seconds"), STREETS)
def test_the_controller_alone_makes_the_decisions_of_the_program(home, tmp_path, capfd, network, timing, seconds):
    """With the longest red of `field`, a memory on one signal, limits and priority, detectors of a city, persons in vehicles."""
    if network == "buses":
        limits = "limits: {A0: {phases: [0, 1, 2], max_green_s: 60, yellow_s: 4}}\n"
        network = str(cross_with_buses(tmp_path / "limited_buses", limits))
    if network == "seen":
        network = str(grid_with_detectors(tmp_path / "seen_grid"))
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed; pip install tsc_marl[deploy]")
    name, out = "pretrained", tmp_path / "street"
    if network == "cross":
        name = str(tmp_path / "memory.pt")
        with_random_weights(tmp_path / "memory.pt", recurrent=True)
    if network == "persons":
        network, name = str(cross_with_buses(tmp_path / "full_buses", "occupancy: {bus: 90}\n")), str(tmp_path / "persons.pt")
        with_random_weights(tmp_path / "persons.pt", "movements-persons")
        assert decisions(name, "cross", timing, seconds) != decisions(name, network, timing, seconds)
        chosen = piloted(Pilot(name, network), scenario.load(network), 1, tmp_path, seconds)
        assert chosen == decisions(name, network, timing, seconds)
    assert home.main(f"deploy --network {network} --policy {name} --out {out} --timing-preset {timing}") == 0
    expected = decisions(name, network, timing, seconds)
    if timing == "field-priority":
        assert expected != decisions(name, network, "field", seconds)
    signals = tuple(json.loads((out / "recipe.json").read_text(encoding="utf-8"))["signals"])
    options = engine.command(scenario.load(network), 1, tmp_path, signals)
    words = [sys.executable, "-c", ALONE, str(out), str(seconds), str(ROOT / "examples/run_deployed_controller.py"), *options]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == expected
    assert len({tuple(choice.values()) for choice in expected}) > 1
    limits = scenario.load(network).limits
    for signal, states in signal_log.read(tmp_path / "tls_1.xml").items():
        own = of_signal(limits, signal)
        assert not list(signal_log.timing_violations(states[:seconds], read_timing(timing), limits=own))
    assert {path.name for path in out.iterdir()} >= {"actor.onnx", "recipe.json", "controller.py", "MODEL_CARD.md"}


def not_to_deploy(path):
    """Write policies that no recipe can express."""
    for name, change in (("lanes", {"sim": SHIPPED.sim | {"observation": "lanes"}}), ("none", {})):
        config = SHIPPED.config | ({"sharing": "none"} if name == "none" else {})
        checkpoint.save(replace(SHIPPED, network="grid2x2", others={}, config=config, **change), path / f"{name}.pt")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--network gird2x2", "network gird2x2 not found; did you mean grid2x2?"),
        ("--policy pretraind", "controller pretraind not found; did you mean pretrained?"),
        ("--policy max_pressure", "max_pressure is a classical controller, which has no checkpoint; give a trained policy"),
        (
            "--policy {0}/lanes.pt",
            "has --sim.observation lanes and --algo.sharing full; deploy takes policies with movements or movements-persons",
        ),
        ("--policy {0}/none.pt", "has --sim.observation movements and --algo.sharing none; deploy takes policies with movements"),
        ("--network cross --policy {0}/none.pt", "the policy of jointq was trained on grid2x2, not cross; use the same"),
        ("--out {0}", "exists; remove it, or give another one with OUT (--out)"),
        (
            "",
            "deploy needs onnx, onnxscript, onnxruntime (import of onnx halted; None in sys.modules); pip install",
        ),
    ],
)
def test_what_cannot_be_deployed_is_one_line(home, tmp_path, capsys, monkeypatch, line, says):
    not_to_deploy(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = "" if "--out" in line else f"--out {tmp_path / 'street'}"
    network = "" if "--network" in line else "--network grid2x2"
    assert home.main(f"deploy {network} {out} {line.format(tmp_path)}") == 2
    assert says in one_line(capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["lanes.pt", "none.pt"]
