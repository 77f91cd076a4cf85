"""What SUMO warns of, throws away or gives up on is said; what stands beside the road is no traffic."""

import dataclasses
import re
import shutil
import subprocess

import numpy as np
import pytest

from tsc_marl.controllers import find
from tsc_marl.errors import UserError
from tsc_marl.evaluation import notes
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.sim import engine, messages, metrics, scenario
from tsc_marl.sim.disturbances import Breakdown
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.link_counts import LinkCounts
from tsc_marl.sim.turning_counts import planning_context

SEED = 1
AHEAD = 'from="left0A0" to="A0right0"'
ACROSS = 'from="bottom0A0" to="A0top0"'


def scene(tmp_path, routes, additional="", end_s=200, **fields):
    """Return cross with routes of its own."""
    (tmp_path / "own.rou.xml").write_text(f"<routes>{routes}</routes>", encoding="utf-8")
    (tmp_path / "own.add.xml").write_text(f"<additional>{additional}</additional>", encoding="utf-8")
    files = {"routes": (tmp_path / "own.rou.xml",), "additional": (tmp_path / "own.add.xml",)}
    return dataclasses.replace(scenario.load("cross"), **files, end_s=end_s, **fields)


def play(given, out, phase=lambda now: now // 30 % 2 * 2, each=lambda env: None, **options):
    """Play an episode; return its metrics and the sum of its rewards."""
    env, ended, paid = TrafficEnv(given, config=SimConfig("lanes")), False, 0.0
    try:
        env.reset(SEED, out=out, **options)
        while not ended:
            reward, ended = env.step(np.array([int(phase(env.now))]))
            paid += reward.sum()
            each(env)
        return env.metrics(), paid
    finally:
        env.close()


# vehicles that SUMO throws away

FAST = f'<flow id="fast" begin="0" end="200" period="4" {AHEAD} departPos="165" departSpeed="13"/>'


@pytest.mark.parametrize("phase", [0, 1])
def test_vehicles_that_sumo_throws_away_count_as_never_inserted(phase, tmp_path):
    """They are too fast for the queue ahead. The number of scheduled vehicles is that of the files, whatever the lights do."""
    given = scene(tmp_path, FAST + f'<flow id="f" begin="0" end="200" period="10" {ACROSS}/>')
    figures, _ = play(given, tmp_path, lambda now: phase, detail=True)
    thrown = metrics.read_dropped(tmp_path, SEED)
    said = re.findall(r"Error: Vehicle '(.*?)' will not be able", (tmp_path / f"messages_{SEED}.txt").read_text(encoding="utf-8"))
    assert set(thrown) == set(said)
    assert figures["dropped"] == len(thrown)
    assert thrown
    assert figures["scheduled"] == scenario.scheduled(given) == 70
    assert figures["never_inserted"] >= figures["dropped"]
    for vehicle, waited_s in thrown.items():
        assert waited_s == pytest.approx(200 - 4 * int(vehicle.removeprefix("fast.")), abs=1)
    trips = re.findall(r'timeLoss="([\d.]+)"', (tmp_path / f"tripinfo_{SEED}.xml").read_text(encoding="utf-8"))
    waits = re.findall(r'departDelay="([\d.]+)"', (tmp_path / f"tripinfo_{SEED}.xml").read_text(encoding="utf-8"))
    lost_s = sum(map(float, trips)) + sum(map(float, waits)) + sum(thrown.values())
    assert figures["delay"] == pytest.approx(lost_s / 70)


@pytest.mark.parametrize("depart_s", [0, 2, 101, 197])
def test_a_vehicle_that_no_lane_takes_is_charged_from_its_departure(depart_s, tmp_path):
    """SUMO only warns of it. It loads the first vehicles at its start, later ones on the way."""
    bad = f'<trip id="bad" depart="{depart_s}" {AHEAD} departLane="7"/>'
    figures, _ = play(
        scene(tmp_path, f'<trip id="a" depart="0" {AHEAD}/>{bad}'), tmp_path, extra_options=["--ignore-route-errors"]
    )
    assert (figures["scheduled"], figures["arrived"], figures["dropped"]) == (2, 1, 1)
    assert metrics.read_dropped(tmp_path, SEED) == pytest.approx({"bad": 200 - depart_s}, abs=0.5)


def test_a_healthy_episode_drops_nobody(tmp_path):
    figures, _ = play(scenario.load("cross"), tmp_path, lambda now: 0)
    assert figures["never_inserted"] > 0
    assert (figures["dropped"], figures["warnings"], figures["collisions"]) == (0, 0, 0)


# messages

RISKY = '<vType id="risky" tau="0.1" minGap="0" sigma="1" speedDev="0.5"/>'
CRASHES = RISKY + "".join(
    f'<flow id="{name}" begin="0" end="200" vehsPerHour="900" type="risky" departSpeed="max" {way}/>'
    for name, way in (("a", AHEAD), ("b", ACROSS))
)


def test_messages_are_counted_and_not_printed(tmp_path, capfd):
    given = scene(tmp_path, CRASHES + FAST)
    figures, _ = play(given, tmp_path)
    assert capfd.readouterr() == ("", "")
    text = (tmp_path / f"messages_{SEED}.txt").read_text(encoding="utf-8")
    kinds = messages.count(tmp_path / f"messages_{SEED}.txt")
    assert kinds["teleports after collisions"] == text.count("Warning: Teleporting vehicle") > 5
    assert kinds["vehicles that could not depart at their speed"] == text.count("Error: Vehicle") > 0
    assert kinds['"Value of tau=… in vehicle type … lower than simulation step size may cause collisions"'] == 1
    ends = text.count("ends teleporting") + text.count("teleports beyond arrival")
    assert figures["warnings"] == kinds.total() == text.count("\n") - ends
    lines = notes.from_files({"some rule": [EpisodeMetrics(SEED, figures)]}, tmp_path)
    assert not lines  # the files of a policy lie in a folder with its name
    shutil.copytree(tmp_path, tmp_path / "kept" / "fixed_time")
    lines = notes.from_files({"fixed_time": [EpisodeMetrics(SEED, figures)]}, tmp_path / "kept")
    assert f"note: SUMO reported teleports after collisions: {kinds['teleports after collisions']} in fixed_time" in lines
    first = ", ".join(list(metrics.read_dropped(tmp_path, SEED))[:3])
    assert f"{figures['dropped']:.0f} in fixed_time; they count as never inserted: {first}" in lines[-1]
    assert sum("all messages: " in line for line in lines) == 1
    assert notes.from_metrics({"fixed_time": [EpisodeMetrics(SEED, figures)] * 2})[0] == (
        f"note: SUMO reported teleports: {2 * figures['teleports']:.0f} in fixed_time"
    )
    assert "teleports" in notes.of_training("jointq s0", {f"traffic/{name}": value for name, value in figures.items()})
    assert not notes.of_training("jointq s0", {"traffic/teleports": 0.0})


@pytest.mark.parametrize(("action", "kind"), [("warn", "collisions"), ("remove", "removals after collisions"), ("none", None)])
def test_collision_action(action, kind, tmp_path):
    figures, _ = play(scene(tmp_path, CRASHES, collision_action=action), tmp_path)
    assert figures["teleports"] == 0
    removed = (tmp_path / f"tripinfo_{SEED}.xml").read_text(encoding="utf-8").count('vaporized="collision"')
    assert figures["arrived"] + removed <= figures["scheduled"]
    assert (removed > 10) == (action == "remove")
    kinds = messages.count(tmp_path / f"messages_{SEED}.txt")
    assert (kinds[kind] > 5) if kind else not [name for name in kinds if name.endswith("collisions")]


def test_collision_action_in_a_file(tmp_path):
    text = (scenario.NETWORKS / "cross" / "scenario.yaml").read_text(encoding="utf-8")
    shutil.copytree(scenario.NETWORKS / "cross", tmp_path / "mine")
    assert scenario.load("mine", tmp_path).collision_action == "teleport"
    (tmp_path / "mine" / "scenario.yaml").write_text(f"{text}\ncollision_action: warn\n", encoding="utf-8")
    assert scenario.load("mine", tmp_path).collision_action == "warn"
    (tmp_path / "mine" / "scenario.yaml").write_text(f"{text}\ncollision_action: bounce\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"collision_action must be one of teleport, warn, remove, none; got 'bounce'"):
        scenario.load("mine", tmp_path)


@pytest.mark.parametrize(
    ("routes", "begin_s", "said"),
    [
        ('<trip id="x" depart="150" from="" to="A0right0"/>', 0, "SUMO refused to start: Attribute 'from' in .*'x' is empty$"),
        (
            f'<trip id="x" depart="1" {AHEAD} type="lorry"/>',
            0,
            "SUMO refused to start: The vehicle type 'lorry' .* not known; list the file with its .* under additional",
        ),
        (
            f'<trip id="x" depart="1" {AHEAD}><stop busStop="b" duration="5"/></trip>',
            0,
            "SUMO refused to start: Invalid stop definition in vehicle 'x'; list the file with its stops, .* under additional",
        ),
        (f'<trip id="x" depart="1" {AHEAD}/>', -100, "SUMO refused to start: The begin time should not be negative$"),
        (
            f'<trip id="a" depart="1" {AHEAD}/><trip id="b" depart="250" {AHEAD}/><trip id="x" depart="300" from="" to=""/>',
            0,
            r"SUMO stopped after second \d+: Attribute 'from' in .*'x' is empty; correct the route files$",
        ),
    ],
)
def test_the_reason_of_sumo_is_in_the_line(routes, begin_s, said, tmp_path, capfd):
    with pytest.raises(UserError, match=rf"^cross: {said}") as error:
        play(dataclasses.replace(scene(tmp_path, routes, end_s=400), begin_s=begin_s), tmp_path)
    assert "\n" not in str(error.value)
    assert "Process Error" not in str(error.value)
    assert capfd.readouterr() == ("", "")


# vehicles beside the road

PARKING = '<parkingArea id="area" lane="left0A0_1" startPos="20" endPos="70" roadsideCapacity="10"/>'
BUS_STOP = '<busStop id="bus" lane="left0A0_1" startPos="20" endPos="70"/>'
BESIDE = (
    'lane="left0A0_1" endPos="60" parking="true" duration="400"',
    'parkingArea="area" duration="400"',
    'busStop="bus" parking="true" duration="400"',
    'lane="left0A0_1" endPos="60" parking="true" triggered="true"',
)


def stops(stop, depart=""):
    """Return six vehicles that stop for more than five minutes, and traffic across."""
    stopping = "".join(f'<trip id="p{k}" depart="{5 * k}" {depart} {AHEAD}><stop {stop}/></trip>' for k in range(6))
    return stopping + "".join(f'<trip id="t{k}" depart="{30 + 5 * k}" {ACROSS}/>' for k in range(10))


@pytest.mark.parametrize(("stop", "depart"), [*((stop, "") for stop in BESIDE), (BESIDE[0], 'departPos="stop"')])
def test_what_stands_beside_the_road_is_no_traffic(stop, depart, tmp_path):
    """For 400 s six vehicles are parked on the approach, and nobody counts them; what they lose is what SUMO counts."""
    seen = []

    def look(env):
        if 150 <= env.now <= 350:
            bound = LinkCounts(env.net).approaching(env.view)
            api = env.engine.api.vehicle
            assert sorted(api.getIDList()) == sorted([*env.vehicles.ids, *env.vehicles.parked])
            seen.append((len(api.getIDList()), len(bound.link), env.obs[0, :-6].reshape(-1, 5)[:, [0, 1, 4]].sum()))

    given = scene(tmp_path, stops(stop, depart), PARKING + BUS_STOP, 600)
    figures, paid = play(given, tmp_path, each=look, detail=True)
    assert (6, 0, 0.0) in seen
    assert {count for count, bound, shown in seen if not bound} == {6}
    assert figures["gridlock"] == 0
    assert figures["queue_max"] <= 6
    assert paid == pytest.approx(-figures["delay"] * figures["scheduled"], rel=0.05)


def test_a_bus_that_stops_on_its_lane_is_on_the_road(tmp_path):
    """Detectors show it and SUMO counts it as halting, though it wants no green: it blocks the lane."""
    seen = []
    given = scene(tmp_path, stops('busStop="bus" duration="400"'), BUS_STOP, 600)
    count = lambda env: seen.append((len(env.vehicles.ids), len(env.vehicles.parked)))  # noqa: E731
    figures, _ = play(given, tmp_path, each=count)
    assert seen[60] == (6, 0)
    assert figures["queue"] > 3


def test_parked_cars_draw_no_green(tmp_path):
    """Cars that park near the stop line, one after the other, and traffic across: max pressure serves the traffic."""
    park = '<stop lane="left0A0_1" endPos="120" duration="150" parking="true"/>'
    cars = "".join(f'<trip id="p{k}" depart="{20 * k}" {AHEAD}>{park}</trip>' for k in range(10))
    traffic = "".join(f'<trip id="t{k}" depart="{6 * k}" {ACROSS}/>' for k in range(60))
    env = TrafficEnv(scene(tmp_path, cars + traffic, end_s=400))
    rule, ended = find("max_pressure")(planning_context(env)), False
    try:
        env.reset(SEED)
        rule.reset(SEED, env.view)
        while not ended:
            _, ended = env.step(rule.act(env.view))
        assert env.metrics()["delay"] < 12
    finally:
        env.close()


# the lane that a breakdown blocks

NODES = """<nodes><node id="t" x="0" y="0" type="traffic_light"/><node id="w" x="-300" y="0"/><node id="e" x="300" y="0"/>
<node id="n" x="0" y="300"/><node id="s" x="0" y="-300"/></nodes>"""
WALK = '<edge id="{}" from="{}" to="{}" sidewalkWidth="2"/>'
PAIR = '<edge id="{}" from="{}" to="{}" numLanes="2">{}</edge>'
BUS_LANE = '<lane index="0" allow="bus"/>'
EASTWARD = [WALK.format("wt", "w", "t"), WALK.format("te", "t", "e")]


@pytest.mark.parametrize(("bus", "blocked"), [("", {"nt_0", "nt_1"}), (BUS_LANE, {"wt_1"})])
def test_a_breakdown_leaves_cars_a_lane(bus, blocked, tmp_path):
    """Of a busy road with a sidewalk and one with two lanes, the second; with a bus lane it has one for cars, as the first."""
    edges = [*EASTWARD, PAIR.format("nt", "n", "t", bus), PAIR.format("ts", "t", "s", bus)]
    (tmp_path / "n.nod.xml").write_text(NODES, encoding="utf-8")
    (tmp_path / "n.edg.xml").write_text(f"<edges>{''.join(edges)}</edges>", encoding="utf-8")
    command = [engine.binary("netconvert"), "-n", "n.nod.xml", "-e", "n.edg.xml", "-o", "n.net.xml"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    flows = "".join(
        f'<flow id="{a}" begin="0" end="200" period="{period}" departLane="best" from="{a}" to="{b}"/>'
        for a, b, period in (("wt", "te", 3), ("nt", "ts", 6))
    )
    walker = '<person id="w" depart="1"><walk edges="wt te"/></person>'
    given = dataclasses.replace(scene(tmp_path, walker + flows), net=tmp_path / "n.net.xml")
    env, ended, stopped = TrafficEnv(given), False, []
    breakdown = Breakdown(100, env.net, 30.0)
    try:
        env.reset(SEED)
        while not (ended or stopped):
            breakdown.apply(env.now, env.engine.api)
            stopped = [s.lane for v in env.engine.api.vehicle.getIDList() for s in env.engine.api.vehicle.getStops(v)]
            _, ended = env.step(np.array([int(env.now) // 30 % 2]))
    finally:
        env.close()
    assert stopped
    assert set(stopped) <= blocked
