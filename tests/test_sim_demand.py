"""Demand that differs from the route files, and what goes wrong on the street."""

import dataclasses
import gzip
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

from tsc_marl.errors import UserError
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.task import Task
from tsc_marl.sim import demand as demands
from tsc_marl.sim import disturbances, road_network, scenario
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.disturbances import FROZEN_PREFIX, Breakdown, Disturbance, FaultyDetectors, select
from tsc_marl.sim.engine import Vehicles
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig

SEED = 23


def vehicles(path):
    """Return the vehicles of a route file."""
    return [element for element in ElementTree.parse(path).getroot() if element.tag in ("vehicle", "trip")]


def written(name, demand, tmp_path, seed=SEED):
    """Return the vehicles of an episode."""
    path = tmp_path / f"{seed}.rou.xml"
    demands.write(scenario.load(name), demand, seed, path)
    return vehicles(path)


def planned(name):
    """Return the vehicles of the scenario's own file that depart in its window."""
    loaded = scenario.load(name)
    root = vehicles(loaded.routes[0])
    return [vehicle for vehicle in root if loaded.begin_s <= float(vehicle.get("depart")) < loaded.end_s]


def way(vehicle):
    """Return the edges, or where from and where to."""
    route = vehicle.find("route")
    return route.get("edges") if route is not None else f"{vehicle.get('from')} {vehicle.get('to')}"


def test_what_is_not_changed_stays(tmp_path):
    """With all factors at one every vehicle is there once, at its time, on its way."""
    before, after = planned("cologne8"), written("cologne8", Demand(), tmp_path)
    assert len(before) == scenario.scheduled(scenario.load("cologne8"))
    key = {vehicle.get("id"): (float(vehicle.get("depart")), way(vehicle)) for vehicle in before}
    assert {vehicle.get("id"): (float(vehicle.get("depart")), way(vehicle)) for vehicle in after} == key


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.3, 2.5])
def test_scale(scale, tmp_path):
    """As many as told within 4 standard deviations; sorted by time, names differ; copies near their originals."""
    before, after = planned("cologne8"), written("cologne8", Demand(scale=scale), tmp_path)
    share = scale % 1
    assert abs(len(after) - scale * len(before)) < 4 * np.sqrt(len(before) * share * (1 - share))
    times = [float(vehicle.get("depart")) for vehicle in after]
    assert times == sorted(times)
    assert len({vehicle.get("id") for vehicle in after}) == len(after)
    original = {vehicle.get("id"): vehicle for vehicle in before}
    for vehicle in after:
        source = original[vehicle.get("id").split("_again")[0]]
        assert way(vehicle) == way(source)
        assert abs(float(vehicle.get("depart")) - float(source.get("depart"))) <= 60.01


def test_resampling_keeps_the_mean_and_repeats_some(tmp_path):
    before, after = planned("cologne8"), written("cologne8", Demand(resample=1.0), tmp_path)
    assert abs(len(after) - len(before)) < 4 * np.sqrt(len(before))
    times = Counter(Counter(vehicle.get("id").split("_again")[0] for vehicle in after).values())
    assert times[1] / len(before) == pytest.approx(np.exp(-1), abs=0.05)
    assert times[2] / len(before) == pytest.approx(np.exp(-1) / 2, abs=0.05)


def test_a_profile_makes_a_peak(tmp_path):
    loaded = scenario.load("cologne8")
    third = loaded.duration_s / 3

    def counts(found):
        return np.bincount([int((float(v.get("depart")) - loaded.begin_s) / third) for v in found], minlength=3)

    before, after = counts(planned("cologne8")), counts(written("cologne8", Demand(profile=(0.5, 2.0, 0.0)), tmp_path))
    assert after[0] == pytest.approx(before[0] / 2, rel=0.15)
    assert after[1] == pytest.approx(before[1] * 2, rel=0.05)
    assert after[2] < 0.1 * before[2]  # copies from just before


def test_turns_mix_the_ways_of_vehicles_from_the_same_edge(tmp_path):
    before, after = planned("cologne8"), written("cologne8", Demand(reroute_share=0.5), tmp_path)
    ways = {}
    for vehicle in before:
        ways.setdefault(way(vehicle).split()[0], set()).add(way(vehicle))
    original = {vehicle.get("id"): way(vehicle) for vehicle in before}
    changed = 0
    for vehicle in after:
        assert way(vehicle) in ways[way(vehicle).split()[0]]
        assert way(vehicle).split()[0] == original[vehicle.get("id")].split()[0]
        changed += way(vehicle) != original[vehicle.get("id")]
    assert 0.1 * len(after) < changed <= 0.55 * len(after)


def test_flows_become_vehicles(tmp_path):
    """The two small networks have flows: as many vehicles at the same times as SUMO makes of them."""
    env = Task("grid2x2").env()
    env.reset(SEED, out=tmp_path)
    done = False
    while not done:
        _, done = env.step(np.zeros(4, dtype=int))
    env.metrics()
    trips = ElementTree.parse(tmp_path / f"tripinfo_{SEED}.xml").getroot().iter("tripinfo")
    ends = env.scenario.end_s
    due = sorted((float(t.get("depart")) if float(t.get("depart")) >= 0 else ends) - float(t.get("departDelay")) for t in trips)
    mine = sorted(float(vehicle.get("depart")) for vehicle in written("grid2x2", Demand(), tmp_path))
    assert len(mine) == len(due) == scenario.scheduled(scenario.load("grid2x2"))
    assert np.abs(np.array(due) - np.array(mine)).max() <= 1.0


# route files of one's own

AHEAD = 'from="left0A0" to="A0right0"'
ACROSS = 'from="bottom0A0" to="A0top0"'


def routed(tmp_path, text, begin_s=0, end_s=200):
    """Return cross with a route file of its own."""
    path = tmp_path / "mine.rou.xml"
    path.write_text(f"<routes>{text}</routes>", encoding="utf-8")
    return dataclasses.replace(scenario.load("cross"), routes=(path,), begin_s=begin_s, end_s=end_s)


def due(scene, tmp_path, demand=None, seed=SEED):
    """Return when each vehicle of an episode was due, and what SUMO wrote of each person."""
    env, done = TrafficEnv(scene, demand=demand), False
    try:
        env.reset(seed, out=tmp_path)
        while not done:
            _, done = env.step(np.array([int(env.now) // 30 % 2 * 2]))
        figures = env.metrics()
    finally:
        env.close()
    root = ElementTree.parse(tmp_path / f"tripinfo_{seed}.xml").getroot()
    times = {}
    for trip in root.iter("tripinfo"):
        came = float(trip.get("depart"))
        times[trip.get("id")] = (came if came >= 0 else scene.end_s) - float(trip.get("departDelay"))
    assert figures["scheduled"] == len(times)
    return times, list(root.iter("personinfo"))


SAME = Demand(scale=1.0001)
"""A demand of its own that leaves nobody out and repeats hardly anyone."""


def test_a_file_that_is_not_sorted_loses_nobody(tmp_path):
    """A bus before a flow that begins earlier, and trips in disorder: with `--demand.*` and without."""
    trips = "".join(f'<trip id="t{depart}" depart="{depart}" {ACROSS}/>' for depart in (100, 50, 20, 120, 10))
    bus = f'<trip id="bus" depart="1" {ACROSS}><stop lane="bottom0A0_1" endPos="50" duration="20"/></trip>'
    scene = routed(tmp_path, f'{bus}<flow id="f" begin="0" end="200" period="10" {AHEAD}/>{trips}')
    names = {"bus", *(f"f.{k}" for k in range(20)), "t100", "t50", "t20", "t120", "t10"}
    assert set(due(scene, tmp_path)[0]) == names == set(due(scene, tmp_path, SAME)[0])
    assert scenario.scheduled(scene) == len(names)


def test_flows_depart_when_sumo_lets_them(tmp_path):
    """Every way to write a flow, seen from a window that begins after some of them do."""
    ways = (
        'begin="10" number="12" period="10"', 'begin="0" end="150" number="9"', 'end="100" period="0:0:10"', 'number="100"',
        'begin="0:01:00" end="00:02:00" perHour="360"', 'begin="90" end="90" number="2"',
        'begin="70" number="3" vehsPerHour="90"',
    )  # fmt: skip
    for begin_s in (0, 33):
        text = "".join(f'<flow id="f{i}" {way} {AHEAD if i % 2 else ACROSS}/>' for i, way in enumerate(ways))
        scene = routed(tmp_path, text, begin_s)
        sumo, (ours, _) = due(scene, tmp_path)[0], due(scene, tmp_path, SAME)
        assert len(sumo) == len(ours) == scenario.scheduled(scene) > 30
        for i in range(len(ways)):
            one, other = (sorted(t for name, t in times.items() if name.startswith(f"f{i}.")) for times in (sumo, ours))
            assert one == pytest.approx(other, abs=1.0)


@pytest.mark.parametrize(("way", "rate"), [('probability="0.15"', 0.15), ('period="exp(0.15)"', 0.15)])
def test_random_flows_are_drawn_anew(way, rate, tmp_path):
    """SUMO draws them, and so do we: `scheduled` is their mean; the episode's figures count those that came."""
    scene = routed(tmp_path, f'<flow id="f" begin="0" end="1000" {way} {AHEAD}/>', 50, 450)
    assert scenario.scheduled(scene) == 400 * rate
    counts = [len(due(scene, tmp_path, demand, seed)[0]) for demand in (None, SAME) for seed in (1, 2)]
    assert len(set(counts)) > 2
    assert all(abs(count - 400 * rate) < 4 * np.sqrt(400 * rate) for count in counts)
    limited = routed(tmp_path, f'<flow id="f" begin="50" number="9" {way} {AHEAD}/>', 50, 460)
    assert len(due(limited, tmp_path)[0]) == len(due(limited, tmp_path, SAME)[0]) == scenario.scheduled(limited) == 9


def test_departures_in_words_and_passengers(tmp_path):
    """A taxi that leaves with its passenger has no time of its own; both stay, whatever the demand."""
    ride = f'<person id="p" depart="5"><ride {AHEAD} lines="taxi"/></person>'
    taxi = f'<trip id="taxi" depart="triggered" {AHEAD}/>'
    scene = routed(tmp_path, f'<trip id="b" depart="begin" {AHEAD}/>{ride}{taxi}<trip id="h" depart="0:00:40" {ACROSS}/>')
    assert scenario.scheduled(scene) == 2
    for demand in (None, SAME):
        times, persons = due(scene, tmp_path, demand)
        assert times == pytest.approx({"b": 0, "taxi": 5, "h": 40}, abs=1)
        assert [person.get("id") for person in persons] == ["p"]


TRAMS = '<vType id="tram" vClass="tram"/><route id="way" edges="left0A0 left0A0.150.00 A0right0"/>'
STOPPING = '<route id="stopping" edges="left0A0 left0A0.150.00 A0right0"><stop busStop="stop" duration="5"/></route>'
LINES = (
    TRAMS + '<flow id="x" type="tram" route="way" begin="0" end="120" period="10"/>',
    f'<flow id="x" line="12" begin="0" end="120" period="10" {AHEAD}/>',
    "".join(f'<trip id="x.{k}" depart="{10 * k}" line="12" {AHEAD}/>' for k in range(12)),
    "".join(f'<trip id="x.{k}" depart="{10 * k}" {AHEAD}><stop busStop="stop" duration="5"/></trip>' for k in range(12)),
    STOPPING + "".join(f'<vehicle id="x.{k}" depart="{10 * k}" route="stopping"/>' for k in range(12)),
)
VARIED = Demand(scale=1.3, resample=0.5, profile=(0.5, 2.0), reroute_share=1.0)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("demand", [Demand(scale=0.3), VARIED])
def test_a_timetable_stays_whatever_the_demand(demand, line, tmp_path):
    """Twelve trams or buses come at their times on their way; the cars around them vary."""
    cars = f'<flow id="f" begin="0" end="200" period="2" {AHEAD}/><flow id="g" begin="0" end="200" period="2" {ACROSS}/>'
    scene = routed(tmp_path, line + cars)
    (tmp_path / "stop.add.xml").write_text(
        '<additional><busStop id="stop" lane="left0A0_1" startPos="20" endPos="50"/></additional>', encoding="utf-8"
    )
    scene = dataclasses.replace(scene, additional=(tmp_path / "stop.add.xml",))
    times, _ = due(scene, tmp_path, demand)
    lines = {name: when for name, when in times.items() if name.startswith("x")}
    assert lines == pytest.approx({f"x.{k}": 10 * k for k in range(12)}, abs=1)
    assert len(times) - 12 == pytest.approx(200 * demand.scale, rel=0.4)
    assert any("_again" in name for name in times) == (demand is VARIED)


def test_a_type_of_public_transport_in_an_additional_file(tmp_path):
    scene = routed(tmp_path, f'<flow id="x" type="line7" begin="0" end="120" period="10" {AHEAD}/>')
    (tmp_path / "types.add.xml").write_text('<additional><vType id="line7" vClass="bus"/></additional>', encoding="utf-8")
    scene = dataclasses.replace(scene, additional=(tmp_path / "types.add.xml",))
    assert len(due(scene, tmp_path, Demand(scale=0.2))[0]) == 12


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_persons_scale_like_vehicles(scale, tmp_path):
    """Walkers one by one and of a flow, in SUMO's own file; each has a name of his own."""
    walk = '<walk from="left0A0" to="left0A0" arrivalPos="20"/>'
    walkers = "".join(f'<person id="p{k}" depart="{k}">{walk}</person>' for k in range(100))
    flow = f'<personFlow id="q" begin="0" end="100" period="1">{walk}</personFlow>'
    cars = f'<flow id="a" begin="150" end="200" period="2" {AHEAD}/>'
    _, persons = due(routed(tmp_path, cars + walkers + flow, 0, 250), tmp_path, Demand(scale=scale))
    names = [person.get("id") for person in persons]
    assert len(set(names)) == len(names)
    for first in "pq":
        assert sum(name.startswith(first) for name in names) == pytest.approx(100 * scale, abs=20)


def test_persons_and_the_vehicles_that_they_ride_stay_together(tmp_path):
    """Each rides in a car of his own, which leaves with him, in one that leaves by the clock, or with the bus of a line."""
    texts = []
    for k in range(20):
        texts.append(f'<person id="p{k}" depart="{k}"><ride {AHEAD} lines="car{k}"/></person>')
        texts.append(f'<trip id="car{k}" depart="{"triggered" if k % 2 else k + 50}" {AHEAD}/>')
    texts.append(f'<person id="f" depart="1"><ride {AHEAD} lines="taxi.1"/></person>')
    texts.append(f'<flow id="taxi" begin="60" end="70" number="2" {AHEAD}/>')
    for scale in (0.3, 2.5):
        times, persons = due(routed(tmp_path, "".join(texts), 0, 400), tmp_path, Demand(scale=scale))
        assert set(times) == {"taxi.0", "taxi.1", *(f"car{k}" for k in range(20))}
        assert {person.get("id") for person in persons} == {"f", *(f"p{k}" for k in range(20))}


def test_a_compressed_route_file(tmp_path):
    scene = scenario.load("cross")
    packed = dataclasses.replace(scene, routes=(tmp_path / "cross.rou.xml.gz",))
    packed.routes[0].write_bytes(gzip.compress(scene.routes[0].read_bytes()))
    assert scenario.scheduled(packed) == scenario.scheduled(scene)
    assert due(packed, tmp_path) == due(scene, tmp_path)
    packed.routes[0].write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"cross.rou.xml.gz: not well-formed XML \(Not a gzipped file"):
        due(packed, tmp_path, SAME)


def test_a_vehicle_with_a_stop_keeps_its_way(tmp_path):
    others = "".join(f'<trip id="t{k}" depart="{k}" from="left0A0" to="A0top0"/>' for k in range(5, 15))
    bus = f'<trip id="bus" depart="4" {AHEAD}><stop edge="A0right0" endPos="50" duration="20"/></trip>'
    scene = routed(tmp_path, bus + others)
    assert len(due(scene, tmp_path, Demand(reroute_share=1.0))[0]) == 11


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'<trip id="x" depart="soon" {AHEAD}/>', r"trip x: depart must be a time in seconds or h:m:s; got 'soon'"),
        (f'<trip id="x" depart="-5" {AHEAD}/>', r"trip x: depart must be a time .*; got '-5'"),
        (f'<trip id="x" {AHEAD}/>', r"trip x: depart must be a time .*; got ''"),
        (f'<trip id="x" depart="1:30" {AHEAD}/>', r"trip x: depart must be a time .*; got '1:30'"),
        (f'<flow id="f" end="9" number="a" {AHEAD}/>', r"flow f: number must be a whole number; got 'a'"),
        (f'<flow id="f" period="0" {AHEAD}/>', r"flow f: period must be a time .* above 0, or exp\(rate\); got '0'"),
        (f'<flow id="f" period="exp(x)" {AHEAD}/>', r"flow f: period must be exp\(rate\) with a rate above 0; got 'exp\(x\)'"),
        (f'<flow id="f" probability="1.5" {AHEAD}/>', r"flow f: probability must be above 0 and at most 1; got '1.5'"),
        (f'<flow id="f" vehsPerHour="0" {AHEAD}/>', r"flow f: vehsPerHour must be above 0; got '0'"),
        (f'<flow id="f" begin="9" end="5" period="1" {AHEAD}/>', r"flow f: end must be a time .*, from begin on; got '5'"),
        (f'<flow id="f" begin="9" {AHEAD}/>', r"flow f needs number or one of period, .*; it has none"),
    ],
)
def test_departures_that_cannot_be_understood(text, said, tmp_path):
    with pytest.raises(UserError, match=f"mine.rou.xml: {said}"):
        scenario.scheduled(routed(tmp_path, text))


def test_every_episode_has_its_own_demand_and_the_same_seed_the_same(tmp_path):
    one, again, other = (
        [
            (v.get("id"), v.get("depart"), way(v))
            for v in written("cologne3", Demand(resample=0.5, reroute_share=0.2), tmp_path, seed)
        ]
        for seed in (1, 1, 2)
    )
    assert one == again != other


def test_an_episode_is_played_with_its_demand(tmp_path):
    task = Task("cologne3", demand=Demand(scale=0.5))
    env = task.env()
    act, done = ControllerPolicy("max_wave").start(env, SEED, out=tmp_path).act, False
    while not done:
        _, done = env.step(act())
    figures = env.metrics()
    assert figures["scheduled"] == len(vehicles(tmp_path / f"demand_{SEED}.rou.xml"))
    assert figures["scheduled"] == pytest.approx(0.5 * scenario.scheduled(scenario.load("cologne3")), rel=0.1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"scale": 0.0}, r"demand.scale must lie in \(0, 5\]; got 0.0"),
        ({"resample": 1.5}, r"demand.resample must lie in \[0, 1\]; got 1.5"),
        ({"reroute_share": -0.1}, r"demand.reroute_share must lie in \[0, 1\]; got -0.1"),
        ({"profile": (0.0, 0.0)}, "demand.profile needs factors of at least 0, one of them above"),
    ],
)
def test_invalid_demand_is_refused(given, said):
    with pytest.raises(UserError, match=said):
        Demand(**given)


def test_a_demand_that_leaves_nobody(tmp_path):
    with pytest.raises(UserError, match=r"cross: demand .* leaves no vehicle"):
        demands.write(scenario.load("cross"), Demand(scale=1e-9), SEED, tmp_path / "x.rou.xml")


# disturbances


def episode(network, stress, policy="max_wave"):
    """Return the environment after an episode, its figures, the shown phases and rewards."""
    env = Task(network, disturbance=stress).env()
    act, done, phases, rewards = ControllerPolicy(policy).start(env, SEED).act, False, [], []
    try:
        while not done:
            reward, done = env.step(act())
            rewards.append(reward.sum())
            phases.append([env.engine.api.trafficlight.getRedYellowGreenState(name) for name in env.names])
        return env, env.metrics(), phases, float(np.sum(rewards))
    finally:
        env.close()


@dataclasses.dataclass
class Played:
    """What is to be seen of an episode."""

    metrics: dict
    reward: float
    hidden: bool
    """The detectors did not show the vehicles on the road."""
    stopped: bool
    """A vehicle made a stop."""
    disobeyed: bool
    """A signal showed something else than the phase of its timer."""


def play(disturbance):
    """Play half the window of cross under max_wave."""
    env = TrafficEnv(dataclasses.replace(scenario.load("cross"), end_s=300), disturbance=disturbance)
    played, done = Played({}, 0.0, False, False, False), False
    try:
        act = ControllerPolicy("max_wave").start(env, SEED).act
        while not done:
            reward, done = env.step(act())
            phases = [signal.phases[timer.phase] for signal, timer in zip(env.net.signals, env.timers, strict=True)]
            played.reward += float(reward.sum())
            played.hidden |= list(env.view.vehicles.ids) != list(env.vehicles.ids)
            played.stopped |= any(env.engine.api.vehicle.isStopped(vehicle) for vehicle in env.vehicles.ids)
            played.disobeyed |= env.engine.states(env.names) != phases
        played.metrics = env.metrics()
        return played
    finally:
        env.close()


@pytest.mark.parametrize("name", disturbances.available())
def test_every_disturbance_changes_its_own_and_never_the_metric(name):
    """Demand, detectors, road or signal differ from a calm episode; rewards still add up to the delay that SUMO reports."""
    disturbance = disturbances.find(name)
    assert not type(disturbance).__doc__.startswith(f"{type(disturbance).__name__}(")  # what dataclasses write
    settings = [field.name for field in dataclasses.fields(Disturbance)]
    assert list(dataclasses.asdict(disturbance))[: len(settings)] == settings
    calm, disturbed = play(Disturbance()), play(disturbance)
    assert (calm.hidden, calm.stopped, calm.disobeyed) == (False, False, False)
    assert disturbed != calm
    assert (disturbed.metrics["scheduled"] != calm.metrics["scheduled"]) == (disturbance.demand != 1)
    assert disturbed.hidden == disturbance.affects_detectors
    assert disturbed.stopped == (disturbance.incident(road_network.read(scenario.load("cross").net), 0.0) is not None)
    assert disturbed.disobeyed == bool(disturbance.stuck)
    # while a vehicle stands broken down SUMO counts no timeLoss for it
    assert -disturbed.reward == pytest.approx(disturbed.metrics["delay"] * disturbed.metrics["scheduled"], rel=0.03)
    assert play(disturbance) == disturbed


def test_a_stuck_signal_runs_its_program():
    """The same lights as under fixed time at that signal, not at the others."""
    stuck = episode("grid2x2", Disturbance(stuck=1))
    fixed = episode("grid2x2", Disturbance(), "fixed_time")
    same = [all(a[i] == b[i] for a, b in zip(stuck[2], fixed[2], strict=True)) for i in range(4)]
    assert sum(same) == 1


def test_a_broken_down_vehicle_stands_for_ten_minutes(tmp_path):
    env = Task("cologne8", disturbance=disturbances.find("lane-blocked")).env()
    act, done = ControllerPolicy("max_wave").start(env, SEED, out=tmp_path).act, False
    while not done:
        _, done = env.step(act())
    env.metrics()
    stops = [float(t.get("stopTime")) for t in ElementTree.parse(tmp_path / f"tripinfo_{SEED}.xml").getroot().iter("tripinfo")]
    assert [stop for stop in stops if stop > 0] == [600.0]


def on_lanes(net, lanes):
    """Return one vehicle on each of some lanes."""
    n = len(lanes)
    numbers = np.array([net.lane_index[lane] for lane in lanes])
    return Vehicles([f"v{i}" for i in range(n)], numbers, np.full(n, 5.0), np.zeros(n), np.zeros(n), np.zeros(n))


class Api:
    """Answers for the one call that the detectors make."""

    class vehicle:  # noqa: N801
        @staticmethod
        def getNextTLS(name):  # noqa: N802
            return [("signal", 0, 1.0, name)]


def test_blind_and_frozen_detectors():
    net = road_network.read(scenario.load("grid4x4").net)
    lanes = [lane for signal in net.signals for lane in signal.lanes]
    first, later = on_lanes(net, lanes), on_lanes(net, lanes[:1])
    blind = Disturbance(blind=0.3).detectors(net, SEED, 0.0, 100.0)
    shown = blind.show(first, 0.0, Api)
    assert 0.55 < len(shown.ids) / len(lanes) < 0.85
    assert shown.ids == blind.show(first, 50.0, Api).ids  # the same lanes throughout
    frozen = Disturbance(frozen=0.3).detectors(net, SEED, 0.0, 100.0)
    assert len(frozen.show(first, -1.0, Api).ids) == len(lanes)  # none has failed yet
    shown = frozen.show(first, 60.0, Api)
    ghosts = [name for name in shown.ids if name.startswith(FROZEN_PREFIX)]
    assert len(shown.ids) == len(lanes)
    assert 0.15 < len(ghosts) / len(lanes) < 0.45
    assert {name for name in frozen.show(later, 70.0, Api).ids if name.startswith(FROZEN_PREFIX)} == set(ghosts)
    assert frozen.next_signals(ghosts[0], Api) == [("signal", 0, 1.0, ghosts[0].removeprefix(FROZEN_PREFIX))]


def test_missed_vehicles_are_others_each_time():
    net = road_network.read(scenario.load("grid4x4").net)
    everyone = on_lanes(net, [lane for signal in net.signals for lane in signal.lanes] * 10)
    detectors = Disturbance(missed=0.2).detectors(net, SEED, 0.0, 100.0)
    one, two = (set(detectors.show(everyone, 0.0, Api).ids) for _ in range(2))
    assert len(one) / len(everyone.ids) == pytest.approx(0.8, abs=0.05)
    assert one != two


@pytest.mark.parametrize(
    ("stress", "said"),
    [
        ({"blind": 2.0}, r"disturbance.blind must lie in \[0, 1\]; got 2.0"),
        ({"demand": 0.0}, r"disturbance.demand must lie in \(0, 5\]; got 0.0"),
    ],
)
def test_invalid_disturbances_are_refused(stress, said):
    with pytest.raises(UserError, match=said):
        Disturbance(**stress)


def test_what_cannot_be_disturbed_here():
    with pytest.raises(UserError, match=r"disturbance\.stuck 5 is more than the 4 signals of grid2x2"):
        Task("grid2x2", disturbance=Disturbance(stuck=5)).env()
    with pytest.raises(UserError, match="observation sumo-rl reads SUMO itself"):
        dataclasses.replace(Task("grid2x2", disturbance=Disturbance(blind=0.2)), sim=SimConfig(observation="sumo-rl")).env()


# disturbances of a user

OBJECT = Disturbance(missed=0.5)


class LoopDetectors(FaultyDetectors):
    """Inductive loops without fast vehicles."""

    def show(self, vehicles, now, api):
        return select(vehicles, vehicles.speed_ms < 5)


@dataclasses.dataclass(frozen=True)
class Loops(Disturbance):
    """The detectors see only vehicles slower than 5 m/s."""

    demand: float = 0.5

    def detectors(self, net, seed, begin_s, duration_s):
        return LoopDetectors(net, seed, begin_s, duration_s)


class TwoBreakdowns(Breakdown):
    def __init__(self, net, from_s):
        super().__init__(100, net, from_s)
        self._second = Breakdown(100, net, from_s + 50)

    def apply(self, now, api):
        super().apply(now, api)
        self._second.apply(now, api)


class BadDay(Disturbance):
    """Two vehicles break down."""

    def incident(self, net, from_s):
        return TwoBreakdowns(net, from_s)


@dataclasses.dataclass(frozen=True)
class Outside(Disturbance):
    missed: float = 2.0


class NotDecorated(Disturbance):
    missed: float = 0.5


@dataclasses.dataclass(frozen=True)
class NotTyped(Disturbance):
    missed = 0.5


@dataclasses.dataclass(frozen=True)
class Needy(Disturbance):
    size: float = dataclasses.field(kw_only=True)


def test_import_paths_lead_to_objects_and_classes():
    assert disturbances.find("test_sim_demand:OBJECT") is OBJECT
    assert disturbances.find("test_sim_demand:Loops") == Loops()
    assert disturbances.find("demand_70") == disturbances.find("demand-70")


def test_own_detectors_are_what_policies_observe():
    played = play(Loops())
    assert played.hidden
    assert played.metrics["scheduled"] < play(Disturbance()).metrics["scheduled"]


def test_own_incidents_happen_on_the_road():
    assert play(BadDay()).stopped


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("demand-71", "disturbance demand-71 not found; did you mean demand-70?"),
        ("blind-30%", "did you mean blind-20?"),
        ("test_sim_demand:Outside", r"test_sim_demand:Outside: disturbance.missed must lie in \[0, 1\]; got 2.0"),
        ("test_sim_demand:NotDecorated", "test_sim_demand:NotDecorated: its missed has no effect"),
        ("test_sim_demand:NotTyped", "test_sim_demand:NotTyped: its missed has no effect"),
        ("test_sim_demand:Needy", "test_sim_demand:Needy failed with TypeError: .*'size'"),
        ("test_sim_demand:SEED", "expected an object or a subclass of tsc_marl.sim.disturbances.base.Disturbance; got 23"),
        ("test_sim_demand:Nothing", "module test_sim_demand has no Nothing"),
    ],
)
def test_names_without_a_disturbance_are_refused(name, said):
    with pytest.raises(UserError, match=said):
        disturbances.find(name)


def fails(*_):
    raise ValueError("no such lane")


@pytest.mark.parametrize(
    "own",
    [
        {"detectors": fails},
        {"incident": fails},
        {"incident": lambda *_: type("Fire", (), {"apply": fails})()},
        {"detectors": lambda *given: type("Fog", (FaultyDetectors,), {"show": fails})(*given[1:])},
        {"detectors": lambda *given: type("Fog", (FaultyDetectors,), {"next_signals": fails})(*given[1:])},
    ],
)
def test_a_failing_disturbance_is_named(own):
    with pytest.raises(UserError, match="disturbance test_sim_demand:Storm failed with ValueError: no such lane"):
        play(type("Storm", (Disturbance,), own)())
