"""Crossings, field plans and NEMA: what is a phase, how long a crossing is green, clears and is red, what persons lose."""

import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
import sumolib

from tsc_marl.config import read_timing
from tsc_marl.controllers import webster
from tsc_marl.errors import UserError
from tsc_marl.evaluation import signal_log, tables
from tsc_marl.evaluation.light_check import RANDOM_REQUESTS
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.sim import engine, road_network, scenario, signal_programs, street_programs
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.green_phases import green_phases
from tsc_marl.sim.signal_timer import SignalTimer
from tsc_marl.sim.signal_timing import Crossing, PhaseChanges, Timing

SEED = 7
SCENARIO = "net: {0}.net.xml\nroutes: [{0}.rou.xml]\nbegin_s: 0\nend_s: {1}\nlicence: own\nsource: own\n"
PLACES = {"c": (0, 0), "w": (-120, 0), "e": (120, 0), "n": (0, 120), "s": (0, -120)}


def made(folder, program, options, routes, end_s):
    """Return a scenario from one of SUMO's programs and a route file."""
    subprocess.run([engine.binary(program), *options, "-o", "x.net.xml"], check=True, capture_output=True, cwd=folder)
    (folder / "x.rou.xml").write_text(f"<routes>{routes}</routes>", encoding="utf-8")
    (folder / "scenario.yaml").write_text(SCENARIO.format("x", end_s), encoding="utf-8")
    return scenario.load(str(folder))


@pytest.fixture(scope="module")
def crossroads(tmp_path_factory):
    """Four legs with crossings, one of them with a link for each direction; vehicles, persons, and a bus line."""
    folder = tmp_path_factory.mktemp("crossroads")
    signal = {"c": 'type="traffic_light"'}
    nodes = "".join(f'<node id="{name}" x="{x}" y="{y}" {signal.get(name, "")}/>' for name, (x, y) in PLACES.items())
    pairs = [pair for leg in "wens" for pair in ((leg, "c"), ("c", leg))]
    edges = "".join(f'<edge id="{a}{b}" from="{a}" to="{b}" numLanes="2" speed="13.9" sidewalkWidth="2"/>' for a, b in pairs)
    (folder / "n.nod.xml").write_text(f"<nodes>{nodes}</nodes>", encoding="utf-8")
    (folder / "n.edg.xml").write_text(f"<edges>{edges}</edges>", encoding="utf-8")
    crossings = "".join(f'<crossing node="c" edges="{leg}c c{leg}"/>' for leg in "ens")
    crossings += '<crossing node="c" edges="wc cw" linkIndex="23" linkIndex2="24"/>'
    (folder / "n.con.xml").write_text(f"<connections>{crossings}</connections>", encoding="utf-8")
    options = ["-n", "n.nod.xml", "-e", "n.edg.xml", "-x", "n.con.xml", "--walkingareas", "--tls.default-type", "static"]
    flows = [("wc", "ce", 8), ("ec", "cw", 8), ("nc", "cs", 12), ("sc", "cn", 12), ("wc", "cs", 30)]
    routes = "".join(f'<flow id="{a}{b}" end="300" period="{s}" from="{a}" to="{b}" departLane="best"/>' for a, b, s in flows)
    routes += '<flow id="bus" end="300" period="60" line="5" from="ec" to="cn"/>'
    walks = [("wc", "ce"), ("nc", "cs"), ("ec", "cn")]
    routes += "".join(f'<personFlow id="p{a}" end="300" period="20"><walk from="{a}" to="{b}"/></personFlow>' for a, b in walks)
    return made(folder, "netconvert", options, routes, 300)


def test_steps_in_which_crossings_clear_are_no_phases(crossroads):
    (signal,) = road_network.of(crossroads).signals
    assert len(signal.phases) == 2
    assert [crossing.link for crossing in signal.crossings] == list(range(len(signal.phases[0])))[-5:]
    assert {round(crossing.length_m, 1) for crossing in signal.crossings} == {12.8}
    assert [phase[-5:] for phase in signal.phases] == ["rGrGG", "GrGrr"]  # north, east, south, west: those along its street


STAGED = [  # links 0 and 1, then 1 and 2, then 3; link 4 is the crossing beside link 0
    ("uurrr", 1), ("GGrrG", 20), ("GGrrr", 6), ("yGrrr", 3), ("rGrrr", 2), ("rGurr", 1), ("rGGrr", 15),
    ("ryyrr", 3), ("rrrur", 1), ("rrrGr", 10), ("rrryr", 3),
]  # fmt: skip


def test_steps_of_a_change_are_no_phases():
    read = green_phases("a", STAGED, crossings=[4])
    assert read.phases == ("GGrrG", "rGGrr", "rrrGr")
    assert read.notes == ("signal a has 1 greens that are steps of a change: they are no actions",)
    longer = [(state, 9 if state == "rGrrr" else seconds) for state, seconds in STAGED]  # link 1 goes on, however long
    assert green_phases("a", longer, crossings=[4]) == read
    for seconds, phases in ((3, ["GGrr", "rrGG"]), (4, ["GGrr", "rGGr", "rrGG"])):  # no phase beside rGGr serves both its links
        assert [*green_phases("a", [("GGrr", 20), ("rGGr", seconds), ("rrGG", 20)]).phases] == phases
    assert "GGrrr" in green_phases("a", STAGED).phases  # link 4 is no crossing: without it the others may go on alone
    major = [(state.replace("y", "Y"), seconds) for state, seconds in STAGED]  # the yellow of a major road
    assert green_phases("a", major, crossings=[4]) == read


NEMA = {"1": "Grrr", "2": "rGgr", "5": "rrGr", "6": "gGrr", "4": "rrrG"}


def test_the_rings_of_nema_run_side_by_side():
    program = sumolib.net.TLSProgram("0", 0, "NEMA")
    for name, state in NEMA.items():
        program.addPhase(state, 20, name=name)
    rings = {"ring1": "1,2,0,4", "ring2": "5,6,0,4", "barrierPhases": "4,4", "barrier2Phases": "2,6"}
    for key, value in rings.items():
        program.setParam(key, value)
    states = [state for state, _ in street_programs.steps(program)]
    assert states == ["GrGr", "GGrr", "rGGr", "gGgr", "rrrG"]  # 1+5, 1+6, 2+5, 2+6, 4
    program.setParam("barrierPhases", "2,5")  # 4 ends nowhere: nobody knows what runs together
    assert [state for state, _ in street_programs.steps(program)] == list(NEMA.values())


def test_a_change_lasts_as_long_as_persons_walk():
    """12.8 m at 1.2 m/s are 10.7 s: the crossing turns red 9 s before the vehicles' yellow of 2 s."""
    timer = SignalTimer("a", ("GrG", "rGr"), Timing(), 0.0, [Crossing(2, 12.8)])
    shown = []
    for now in range(0, 40):
        if now % 5 == 0:
            timer.request(int(now >= 5), now)
        shown.append(timer.pop_due_state(now) or shown[-1])
    assert shown == ["GrG"] * 10 + ["Grr"] * 9 + ["yrr"] * 2 + ["rGr"] * 19  # 2 + 7 s of walk have passed at 10 s
    with pytest.raises(UserError, match="max_crossing_red_s 20 cannot be kept: its 2 phases need 31 s between two greens"):
        SignalTimer("a", ("GrG", "rGr"), Timing(max_crossing_red_s=20), 0.0, [Crossing(2, 12.8)])


@pytest.mark.parametrize("least_s", [5, 12])
def test_plans_leave_time_to_walk(least_s):
    """Phase 0 shows a walk of at least 7 s and then clears 9 s before its yellow, so its vehicles have at least 16 s."""
    each = np.eye(2)
    demand = webster.PhaseDemand(serves=each, turn=each > 0, lane=each > 0, flow=np.array([0.01, 0.5]))
    changes = PhaseChanges(("GrG", "rGr"), Timing(min_green_s=least_s), [Crossing(2, 12.8)])
    walk_s = max(least_s, 7)
    assert signal_programs.least_green_s(changes, (0, 1)) == [walk_s + 9, least_s]
    assert webster.best_plan(demand, changes).green_s[0] == walk_s + 9
    assert signal_programs.longest_green_s(changes, (0, 1), 500) == [120 - 11 - 2] * 2  # a red of 11 s and the other phase
    third = webster.PhaseDemand(np.array([[1, 0], [0, 1], [1, 0]]), each > 0, each > 0, np.array([0.1, 0.1]))
    walks = PhaseChanges(("Grr", "rGr", "GrG"), Timing(), [Crossing(2, 12.8)])
    assert webster.candidates(third, walks) == [(1, 2), (0, 1, 2)]  # only the last phase serves the crossing


def play(scene, name, timing, out):
    env, done = TrafficEnv(scene, read_timing(timing)), False
    try:
        act = ControllerPolicy(name).start(env, SEED, out=out).act
        while not done:
            _, done = env.step(act())
        return env.metrics()
    finally:
        env.close()


@pytest.mark.parametrize(
    ("name", "timing"),
    [
        (RANDOM_REQUESTS, "sumo-rl"),
        *(pytest.param(name, "field", marks=pytest.mark.sumo) for name in ("max_wave", "webster", "actuated", "delay_based")),
    ],
)
def test_the_lights_of_crossings(crossroads, name, timing, tmp_path):
    play(crossroads, name, timing, tmp_path)
    street = signal_log.StreetSignals(crossroads.net)
    cut = not name.startswith("tsc_marl") and name != "max_wave"
    for signal, states in signal_log.read(tmp_path / f"tls_{SEED}.xml").items():
        crossings_m = street.crossings_m[signal]
        assert len(crossings_m) == 5
        assert set(crossings_m) <= {link for pair in street.conflicts[signal] for link in pair}
        assert not list(street.violations(signal, states))
        assert not list(signal_log.timing_violations(states, read_timing(timing), cut, crossings_m))
        assert all({"G", "r"} == set(chars) for link, chars in enumerate(zip(*states, strict=True)) if link in crossings_m)


def test_what_persons_and_buses_lose_stands_in_the_table(crossroads, tmp_path):
    figures = play(crossroads, "max_wave", "sumo-rl", tmp_path)
    root = ElementTree.parse(tmp_path / f"tripinfo_{SEED}.xml").getroot()
    persons = root.findall("personinfo")
    unfinished = [any(walk.get("arrival") == "-1" for walk in person.iter("walk")) for person in persons]
    assert 0 < sum(unfinished) == figures["unfinished_walks"] < len(persons)
    lost_s = sum(float(person.get("timeLoss")) for person in persons) / len(persons)
    assert lost_s <= figures["walk_delay"] < lost_s + 120
    vehicles = figures["scheduled"]
    mean = (figures["delay"] * vehicles + figures["walk_delay"] * len(persons)) / (vehicles + len(persons))
    assert figures["person_delay"] == pytest.approx(mean)
    buses = [float(t.get("timeLoss")) + float(t.get("departDelay")) for t in root.iter("tripinfo") if t.get("id")[:3] == "bus"]
    assert len(buses) == 5
    assert figures["transit_delay"] == pytest.approx(np.mean(buses))
    shown = tables.markdown({"max_wave": [EpisodeMetrics(SEED, figures)]})
    assert "persons [s] | walks [s] | unfinished walks | transit [s]" in shown


@pytest.mark.sumo
def test_actuated_is_no_worse_than_a_nema_program(tmp_path):
    options = "--grid --grid.x-number 2 --grid.y-number 1 --grid.length 300 --grid.attach-length 200 -L 3 --turn-lanes 1"
    kinds = ["--tls.set", "A0,B0", "--tls.default-type", "NEMA"]
    ways = [("left0A0", "B0right0"), ("right0B0", "A0left0"), ("bottom0A0", "A0top0"), ("top1B0", "B0bottom1")]
    ways += [("left0A0", "A0top0"), ("right0B0", "B0bottom1")]
    routes = "".join(f'<flow id="{a}{b}" end="600" vehsPerHour="500" from="{a}" to="{b}"/>' for a, b in ways)
    scene = made(tmp_path, "netgenerate", [*options.split(), *kinds], routes, 600)
    assert [len(signal.phases) for signal in road_network.of(scene).signals] == [8, 8]
    delays = {name: play(scene, name, "sumo-rl", tmp_path / name)["delay"] for name in ("actuated", "own_program")}
    assert delays["actuated"] <= delays["own_program"]
