"""The field `signals` of a scenario: only the signals that it names are agents, the others keep their program."""

import contextlib
import itertools
import shutil

import numpy as np
import pytest
import sumolib
from helpers.cli import ROOT

from tsc_marl.errors import UserError
from tsc_marl.sim import fingerprint, road_network, scenario
from tsc_marl.sim.env import TrafficEnv

pytest_plugins = "helpers.fixtures"
NUMBERS = itertools.count()
"""Of folders: a process knows each network by its folder's name."""


@pytest.fixture
def write(tmp_path):
    """Copy grid2x2 to a folder of its own, with a field `signals` in its scenario."""

    def copy(signals):
        folder = tmp_path / f"part{next(NUMBERS)}"
        shutil.copytree(ROOT / "networks" / "grid2x2", folder)
        with (folder / scenario.FILE).open("a", encoding="utf-8") as file:
            file.write(f"signals: {signals}\n")
        return folder

    return copy


def test_the_named_signals_are_the_agents(write):
    part = road_network.of(scenario.load(str(write('["B1", "A0"]'))))
    whole = road_network.of(scenario.load("grid2x2"))
    assert [signal.name for signal in part.signals] == ["A0", "B1"]
    assert part.fixed == ("A1", "B0")
    assert part.notes == ("signals that keep their program, since the scenario names 2 as agents: 2, such as A1",)
    assert [signal.neighbours for signal in part.signals] == [("B1",), ("A0",)]  # by way of signals that are no agents
    assert part.signals[0].phases == whole.signals[0].phases
    assert set(part.approach.values()) < set(whole.approach.values())


def shown(program, now_s):
    """Return the state that a program by the clock shows."""
    phases = program.getPhases()
    left_s = (now_s - float(program.getOffset())) % sum(phase.duration for phase in phases)
    for phase in phases:
        left_s -= phase.duration
        if left_s < 0:
            return phase.state
    raise AssertionError("beyond its cycle")


def test_the_others_keep_their_program(write):
    loaded = scenario.load(str(write('["A0"]')))
    programs = {tls.getID(): next(iter(tls.getPrograms().values())) for tls in
                sumolib.net.readNet(str(loaded.net), withPrograms=True).getTrafficLights()}  # fmt: skip
    with contextlib.closing(TrafficEnv(loaded)) as env:
        env.reset(1)
        lights = env.engine.api.trafficlight
        rng, own = np.random.default_rng(0), set()
        for _ in range(40):
            env.step(rng.integers(env.n_phases))
            own.add(lights.getRedYellowGreenState("A0"))
            for name in ("A1", "B0", "B1"):
                assert lights.getRedYellowGreenState(name) == shown(programs[name], env.now - 1)
        assert own >= set(env.net.signals[0].phases)


def test_a_policy_learns_for_them(write, home):
    line = f"train --network {write('[A0]')} --algos ippo --episodes 4 --eval-seeds 1 --baselines max_pressure"
    assert home.main(line) == 0
    saved = home.checkpoint()["fingerprint"]
    assert list(saved["signals"]) == ["A0"]
    assert saved["files"]["signals"] == "A0"


def test_results_of_other_agents_are_not_those_of_the_network(write):
    one, other, whole = (fingerprint.of_scenario(scenario.load(str(place))) for place in
                         (write('["A0"]'), write('["A1"]'), "grid2x2"))  # fmt: skip
    assert one["signals"] != other["signals"]
    assert "signals" not in whole
    assert {**one, "signals": ""} == {**whole, "signals": ""}


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        ('["A0", "A00"]', "{net}: signal A00 not found; did you mean A0? (available: A0, A1, B0, B1)"),
        ("[A0, A0]", "signals names A0 twice; remove one of them"),
        ("[]", "signals must be a list of names of signals"),
        ("A0", "signals must be a list of names of signals, numbers in quotes, or be left out; got 'A0'"),
        ("[1]", "numbers in quotes, or be left out; got [1]"),
    ],
)
def test_wrong_names_are_refused_in_one_line(signals, reason, write):
    folder = write(signals)
    with pytest.raises(UserError) as error:
        road_network.of(scenario.load(str(folder)))
    assert reason.format(net=folder / "grid2x2.net.xml") in str(error.value)
    assert "\n" not in str(error.value)
