"""A pilot in one's own loop: the decisions of an evaluation, faults and the way back, and a look without a touch."""

import re
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

import tsc_marl
from tsc_marl.api import watchdog
from tsc_marl.controllers.max_pressure import MaxPressure
from tsc_marl.errors import UserError
from tsc_marl.evaluation import signal_log
from tsc_marl.rollout.task import Task
from tsc_marl.sim import engine, scenario
from tsc_marl.sim._libsumo import libsumo
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.signal_timing import Timing
from tsc_marl.tracking.policies import find_policy

SCENE = scenario.load("grid2x2")
NAMES = ("A0", "A1", "B0", "B1")


@pytest.fixture
def sumo(tmp_path):
    """Starts SUMO in this process, whose log of the signals lies in `tmp_path`."""

    def start(name="grid2x2"):
        libsumo.start(["sumo", *engine.command(scenario.load(name), 1, tmp_path, NAMES if name == "grid2x2" else ())])
        return libsumo

    yield start
    libsumo.close()


def run(api, pilot, seconds):
    """Step for some seconds; return what the pilot chose."""
    choices = []
    for _ in range(seconds):
        choices.append(pilot.step(api))
        api.simulationStep()
    return [choice for choice in choices if choice is not None]


@pytest.mark.parametrize(("name", "signals"), [("pretrained", None), ("max_pressure", ["A0", "B1"])])
def test_an_own_loop_makes_the_decisions_of_an_evaluation(name, signals, sumo):
    task = Task("grid2x2")
    policy = find_policy(name, task)
    env = TrafficEnv(replace(SCENE, signals=tuple(signals or ())), task.timing, policy.sim if signals is None else task.sim)
    driver, expected = policy.start(env, 1), []
    while env.now < 300:
        phases = driver.act()
        expected.append(dict(zip(env.names, phases.tolist(), strict=True)))
        env.step(phases)
    env.close()
    pilot = tsc_marl.Pilot(name, "grid2x2", signals=signals)
    assert run(sumo(), pilot, 300) == expected
    assert pilot.signals == tuple(signals or NAMES)


class Moody(MaxPressure):
    """Fails, or never ends, when its mood says so."""

    mood, released = "", threading.Event()

    def act(self, view):
        if self.mood == "outside":
            return super().act(view) + 9
        if self.mood == "fails":
            raise ValueError("no idea")
        if self.mood == "late":
            self.released.wait()
        return super().act(view)


class Detectors:
    """SUMO's vehicles, or none, or an error."""

    def __init__(self):
        self.state = ""

    def __getattr__(self, name):
        return getattr(libsumo.vehicle, name)

    def getIDList(self):  # noqa: N802
        if self.state == "broken":
            raise ConnectionError("no line to the cabinet")
        return () if self.state == "silent" else libsumo.vehicle.getIDList()


def test_faults_hand_the_signals_back_without_a_jump(sumo, tmp_path, caplog, monkeypatch):
    """It takes over a running simulation; then each part fails once, and the lights keep every yellow and least green."""
    timing, sumo = Timing(decision_s=1, yellow_s=3), sumo()
    detectors, settings = Detectors(), tsc_marl.Watchdog(silent_s=30, late_s=3, recovery=2)
    api = SimpleNamespace(
        vehicle=detectors, person=sumo.person, trafficlight=sumo.trafficlight, simulation=sumo.simulation,
        simulationStep=sumo.simulationStep,
    )  # fmt: skip
    pilot = tsc_marl.Pilot(Moody, "grid2x2", timing=timing, watchdog=settings)
    sumo.simulationStep(48)
    assert "y" in sumo.trafficlight.getRedYellowGreenState("A0")
    run(api, pilot, 60)
    assert not pilot.faults
    faults = {}
    for part, state, seconds in (
        (detectors, "silent", 70),
        (detectors, "broken", 10),
        (Moody, "fails", 10),
        (Moody, "late", 10),
        (Moody, "outside", 10),
    ):
        name = "state" if part is detectors else "mood"
        Moody.released.clear()
        monkeypatch.setattr(part, name, state)
        run(api, pilot, seconds)
        assert pilot.faults.keys() == set(NAMES)
        (faults[state],) = set(pilot.faults.values())
        assert {sumo.trafficlight.getProgram(signal) for signal in NAMES} == {"0"}
        monkeypatch.setattr(part, name, "")
        Moody.released.set()
        for thread in threading.enumerate():
            if thread.name == watchdog.THREAD:
                thread.join()
        run(api, pilot, 60)
        assert not pilot.faults
        assert {sumo.trafficlight.getProgram(signal) for signal in NAMES} == {"online"}
    assert faults.pop("fails").startswith("the policy failed: UserError: controller Moody failed with ValueError: no idea")
    assert re.fullmatch(r"the policy asked for phase \d+ of signal A0, which has 0 \.\. \d", faults.pop("outside"))
    assert faults == {
        "silent": "no vehicle detected for 30 s",
        "broken": "the detectors cannot be read: ConnectionError: no line to the cabinet",
        "late": "the policy is late: no phases after 3 s",
    }
    assert "signals A0, A1, B0 and 1 more: back to the signal's own program: no vehicle detected for 30 s" in caplog.text
    assert "signals A0, A1, B0 and 1 more: the policy drives again, after: no vehicle detected for 30 s" in caplog.text
    sumo.close()
    street = signal_log.StreetSignals(SCENE.net)
    for signal, states in signal_log.read(tmp_path / "tls_1.xml").items():
        assert not list(street.violations(signal, states))
        assert not list(signal_log.timing_violations(states, timing, cut=True))


def test_a_shadow_leaves_the_lights_alone(sumo, tmp_path):
    choices = run(sumo(), tsc_marl.Pilot("pretrained", "grid2x2", act=False), 200)
    libsumo.close()
    assert len(choices) == 40
    assert len({choice["A0"] for choice in choices}) > 1
    street = signal_log.StreetSignals(SCENE.net)
    for signal, states in signal_log.read(tmp_path / "tls_1.xml").items():
        assert not list(street.program_violations(signal, states, 0, by_the_clock=True))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"signals": ["A9"]}, "signal A9 not found .available: A0, A1, B0, B1.$"),
        ({"signals": []}, "signals names none to drive; leave it out for all"),
        ({"policy": "fixed_time"}, "policy fixed_time runs programs of SUMO, which a pilot does not load; use max_pressure"),
        ({"policy": "pretraind"}, "controller pretraind not found; did you mean pretrained?"),
        ({"network": "gird2x2"}, "network gird2x2 not found; did you mean grid2x2?"),
        ({"watchdog": tsc_marl.Watchdog(), "act": False}, "act=False leaves the lights alone, so that a watchdog has nothing"),
    ],
)
def test_what_a_pilot_cannot_do_is_one_line(given, says):
    with pytest.raises(UserError, match=says):
        tsc_marl.Pilot(**{"policy": "max_pressure", "network": "grid2x2", **given})


def test_another_simulation_and_lost_seconds_are_one_line(sumo):
    sumo("cross")
    pilot = tsc_marl.Pilot("max_pressure", "cross")
    pilot.step(libsumo)
    libsumo.simulationStep(3)
    with pytest.raises(UserError, match="the simulation went on by 3 s since the last step; call step every second"):
        pilot.step(libsumo)
    with pytest.raises(UserError, match="has no signal A1; give the pilot the network that it runs"):
        tsc_marl.Pilot("max_pressure", "grid2x2").step(libsumo)
