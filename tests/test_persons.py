"""Persons: how many a vehicle stands for, what they lose on walks and rides, and the reward that is paid for them."""

import dataclasses
import re
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from helpers.networks import network_with

from tsc_marl.config import parse
from tsc_marl.errors import UserError
from tsc_marl.sim import engine, fingerprint, road_network, scenario
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.observations.movements_persons import PERSONS, MovementsPersonsObservation

pytest_plugins = ("helpers.fixtures",)
SEED = 3
NODES = """<nodes><node id="w" x="0" y="0"/><node id="m" x="300" y="0" type="traffic_light"/><node id="e" x="600" y="0"/>
<node id="n" x="300" y="300"/><node id="s" x="300" y="-300"/></nodes>"""
EDGES = """<edges><edge id="wm" from="w" to="m" numLanes="2"/><edge id="me" from="m" to="e" numLanes="2"/>
<edge id="nm" from="n" to="m"/><edge id="ms" from="m" to="s"/></edges>"""
STOPS = """<additional><busStop id="before" lane="wm_1" startPos="50" endPos="80"/>
<busStop id="behind" lane="me_1" startPos="150" endPos="180"/></additional>"""
ROUTES = """<routes><vType id="long" vClass="bus"/>
<flow id="cars" from="nm" to="ms" begin="0" end="300" period="5"/>
<vehicle id="bus0" type="long" line="L" depart="110"><route edges="wm me"/>
<stop busStop="before" duration="10"/><stop busStop="behind" duration="10"/></vehicle>
<person id="rider" depart="0"><walk from="wm" busStop="before"/><ride busStop="behind" lines="L"/><walk to="me"/></person>
<person id="walker" depart="20"><walk from="wm" to="me"/></person></routes>"""
FIELDS = {
    "net": "x.net.xml", "routes": ["x.rou.xml"], "additional": ["x.add.xml"], "begin_s": 0, "licence": "-", "source": "-",
}  # fmt: skip


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """Return a function that loads a crossing with cars, a bus, a rider and a walker, with further fields."""
    folder = tmp_path_factory.mktemp("street")
    for name, content in {"x.nod.xml": NODES, "x.edg.xml": EDGES, "x.add.xml": STOPS, "x.rou.xml": ROUTES}.items():
        (folder / name).write_text(content, encoding="utf-8")
    options = "-n x.nod.xml -e x.edg.xml --sidewalks.guess --sidewalks.guess.max-speed 30 --crossings.guess -o x.net.xml"
    subprocess.run([engine.binary("netconvert"), *options.split()], check=True, capture_output=True, cwd=folder)

    def load(end_s=400, **fields):
        (folder / "scenario.yaml").write_text(yaml.safe_dump(FIELDS | {"end_s": end_s} | fields), encoding="utf-8")
        return scenario.load(str(folder))

    return load


def played(scene, out, reward="person-delay"):
    """Hold each phase for a minute; return the sum of the rewards, the metrics and SUMO's file of trips."""
    env = TrafficEnv(scene, config=SimConfig(reward=reward))
    env.reset(SEED, out=out)
    total, ended, step = 0.0, False, 0
    while not ended:
        values, ended = env.step(np.full(len(env.names), step // 12 % env.n_phases[0]))
        total, step = total + values.sum(), step + 1
    return total, env.metrics(), ElementTree.parse(out / f"tripinfo_{SEED}.xml").getroot()


def delay_s(trip):
    """Return what a vehicle of SUMO's file lost."""
    return float(trip.get("timeLoss")) + float(trip.get("departDelay"))


def test_persons_lose_what_their_vehicles_and_walks_do(street, tmp_path):
    _, figures, root = played(street(occupancy={"bus": 30, "passenger": 1.5}), tmp_path)
    weights = [30 if trip.get("vType") == "long" else 1.5 for trip in root.iter("tripinfo")]
    in_vehicles = sum(weight * delay_s(trip) for weight, trip in zip(weights, root.iter("tripinfo"), strict=True))
    walks, rides = (sum(float(part.get("timeLoss")) for part in root.iter(kind)) for kind in ("walk", "ride"))
    assert rides > 10
    assert walks > 0
    assert figures["walk_delay"] == pytest.approx(walks / 2)
    assert figures["person_delay"] == pytest.approx((in_vehicles + walks + rides) / (sum(weights) + 2))


def test_a_ride_under_way_counts_with_the_vehicles_loss(street, tmp_path):
    _, figures, root = played(street(end_s=170), tmp_path)
    (ride,) = root.iter("ride")
    assert ride.get("timeLoss") == "-1"
    assert float(ride.get("depart")) > 0
    bus = next(trip for trip in root.iter("tripinfo") if trip.get("id") == "bus0")
    lost_s = float(bus.get("timeLoss")) * float(ride.get("duration")) / float(bus.get("duration"))
    trips = [delay_s(trip) for trip in root.iter("tripinfo") if float(trip.get("depart")) >= 0]
    expected = (sum(trips) + 2 * figures["walk_delay"] + lost_s) / (len(trips) + 2)
    assert lost_s > 0
    assert figures["person_delay"] == pytest.approx(expected)


def test_the_reward_adds_up_to_the_delay_of_all_persons(street, tmp_path):
    _, plain, _ = played(street(), tmp_path / "plain", "delay")
    scene = street(occupancy={"bus": 30, "passenger": 1.5})
    total, figures, root = played(scene, tmp_path / "persons")
    assert figures["delay"] == plain["delay"]  # the same simulation
    persons = sum(30 if trip.get("vType") == "long" else 1.5 for trip in root.iter("tripinfo")) + 2
    assert -total / persons == pytest.approx(figures["person_delay"], rel=0.05)
    cars, _, _ = played(scene, tmp_path / "cars", "delay")
    assert cars / plain["scheduled"] == pytest.approx(-plain["delay"], rel=0.05)


def test_persons_who_wait_are_charged_to_their_crossings_signal(tmp_path):
    options = "--grid --grid.x-number 2 --grid.y-number 1 --grid.length 300 --grid.attach-length 200 --tls.set A0,B0 -o x.net.xml"
    walks = "--sidewalks.guess --sidewalks.guess.max-speed 30 --crossings.guess"
    command = [engine.binary("netgenerate"), *options.split(), *walks.split()]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    net = road_network.read(tmp_path / "x.net.xml")
    assert [signal.name for signal in net.signals] == ["A0", "B0"]
    edges = {lane.rpartition("_")[0] for lane in net.lane_index}
    for number, name in enumerate("AB"):
        places = [edge for edge in edges if edge.startswith((f":{name}0_w", f":{name}0_c"))]
        assert len(places) == 8
        assert {net.signal_charged_on(edge) for edge in places} == {number}


@pytest.mark.parametrize("disturbance", [Disturbance(), Disturbance(frozen=1.0)])
def test_a_policy_may_see_the_persons_bound_for_a_link(street, disturbance):
    env = TrafficEnv(street(occupancy={"bus": 30}), config=SimConfig("movements-persons"), disturbance=disturbance)
    env.reset(SEED)
    observation = env.episode.feedback.observation
    assert isinstance(observation, MovementsPersonsObservation)
    columns, n_links, seen = len(observation.link_features), observation.structure.real.shape[1], []
    assert observation.size == env.obs.shape[1]
    while env.now < 200:
        env.step(np.full(1, int(env.now // 60) % env.n_phases[0]))
        links = env.obs[0, : n_links * columns].reshape(n_links, columns)
        seen.append(dict(zip(observation.link_features, links[observation.structure.real[0]].T, strict=True)))
    persons = np.array([row["bound_persons"] for row in seen]) * PERSONS
    vehicles = np.array([row["bound_queue"] + row["bound_approaching"] for row in seen]) * 10
    further = np.round(persons - vehicles, 4)
    env.close()
    assert (further >= 0).all()
    if not disturbance.frozen:
        assert set(further.ravel()) == {0.0, 30.0}  # cars; the bus, in which 29 more than a driver and the rider are
        assert any(row["bound_persons_near"].max() == np.float32(31 / PERSONS) for row in seen)


def test_the_observation_has_the_settings_of_movements():
    plain, persons = (parse(["--algos", "ippo", *words]) for words in ([], ["--sim.observation", "movements-persons"]))
    assert persons.algo == plain.algo
    assert persons.episodes == plain.episodes
    assert persons.sim.observation == "movements-persons"


def test_without_persons_and_occupancy_there_is_no_figure(tmp_path):
    env = TrafficEnv(dataclasses.replace(scenario.load("cross"), end_s=60))
    env.reset(SEED, out=tmp_path)
    assert not {"person_delay", "walk_delay"} & env.metrics().keys()


def test_a_training_notices_another_occupancy():
    plain = scenario.load("cross")
    before, here = map(fingerprint.of_files, (plain, dataclasses.replace(plain, occupancy=(("bus", 30.0),))))
    assert before | {"occupancy": "bus 30"} == here


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (30, "persons in a vehicle by its class"),
        ({"buss": 30}, "did you mean bus?"),
        ({"bus": "many"}, "occupancy of bus must be a number of persons, 0 or more; got 'many'"),
        ({"bus": -1}, "got -1"),
        ({"bus": True}, "got True"),
        ({"bus": float("nan")}, "got nan"),
    ],
)
def test_a_wrong_occupancy_is_one_line(given, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        scenario.read(network_with(tmp_path / "x", "cross", occupancy=given) / "scenario.yaml", "x")
