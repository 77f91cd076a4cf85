"""Detectors that a scenario gives: loops, lane areas and cameras; policies see nothing else."""

import dataclasses

import numpy as np
import pytest
import yaml
from helpers.decisions import piloted
from helpers.networks import network_with
from numpy.testing import assert_allclose, assert_array_equal

from tsc_marl.api.pilot import Pilot
from tsc_marl.city import cut
from tsc_marl.controllers import find
from tsc_marl.errors import UserError
from tsc_marl.sim import fingerprint, road_network, scenario
from tsc_marl.sim.city_detectors import CityDetectors
from tsc_marl.sim.disturbances import Disturbance
from tsc_marl.sim.env import TrafficEnv
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.sim.turning_counts import planning_context

pytest_plugins = ("helpers.fixtures",)
DETECTORS = """<additional>
    <inductionLoop id="loop" lane="top0A0_0" pos="100" file="NUL" period="60"/>
    <e1Detector id="back" lane="top0A0_0" pos="-10" length="2" file="NUL" period="60"/>
    <laneAreaDetector id="area" lane="top0A0_1" pos="50" length="30" file="NUL" period="60"/>
    <e2Detector id="open" lane="right0A0_0" pos="-40" endPos="-5" file="NUL" period="60"/>
    <e2Detector id="long" lane="right0A0_1" endPos="60" length="20" file="NUL" period="60"/>
</additional>"""


@pytest.fixture
def detectors(tmp_path):
    path = tmp_path / "detectors.add.xml"
    path.write_text(DETECTORS, encoding="utf-8")
    return path


def seen(scene):
    """Return by lane the stretches that detectors see."""
    net = road_network.of(scene)
    return {
        lane: [(a, b) for a, b in zip(net.seen.from_m[i], net.seen.to_m[i], strict=True) if np.isfinite(a)]
        for lane, i in net.lane_index.items()
        if not net.seen.blind[i]
    }


def test_the_stretches_are_those_of_the_file(detectors):
    plain = scenario.load("cross")
    net = road_network.of(plain)
    length_m = dict(zip(net.lane_index, net.lane_length_m, strict=True))
    stretches = seen(dataclasses.replace(plain, detectors=CityDetectors((detectors,))))
    top, right = length_m["top0A0_0"], length_m["right0A0_0"]
    assert stretches.keys() == {"top0A0_0", "top0A0_1", "right0A0_0", "right0A0_1"}
    assert_allclose(stretches["top0A0_0"], [(100, 105), (top - 10, top - 3)])
    assert_allclose(stretches["top0A0_1"], [(50, 80)])
    assert_allclose(stretches["right0A0_0"], [(right - 40, right - 5)])
    assert_allclose(stretches["right0A0_1"], [(40, 60)])


def test_a_note_says_which_lanes_have_none(detectors):
    """The roads of cross have two lanes, then three: the detectors before them lie on the way to all three."""
    net = road_network.of(dataclasses.replace(scenario.load("cross"), detectors=CityDetectors((detectors,))))
    note = "on the way to 6 of 12 lanes; none before the stop line of 6, such as bottom0A0.150.00_0"
    assert net.notes[-1] == f"policies see what the scenario's detectors see, {note}"


def test_an_area_over_several_lanes_has_the_whole_of_those_between(tmp_path):
    path = tmp_path / "long.add.xml"
    lanes = ("A0B0_0", ":B0_1_0", "B0right0_0")
    path.write_text(
        f'<additional><e2Detector id="a" lanes="{" ".join(lanes)}" pos="20" endPos="30"/></additional>', encoding="utf-8"
    )
    plain = scenario.load("grid2x2")
    net = road_network.of(plain)
    length_m = dict(zip(net.lane_index, net.lane_length_m, strict=True))
    stretches = seen(dataclasses.replace(plain, detectors=CityDetectors((path,))))
    assert_allclose(stretches[lanes[0]], [(20, length_m[lanes[0]])])
    assert_allclose(stretches[lanes[1]], [(0, length_m[lanes[1]])])
    assert_allclose(stretches[lanes[2]], [(0, 30)])


def test_a_camera_sees_so_far_upstream_through_junctions():
    """On ingolstadt7 lanes before a stop line are short: a range of 150 m goes on in those behind them."""
    plain = scenario.load("ingolstadt7")
    net = road_network.of(plain)
    some = net.signals[0].name
    stretches = seen(dataclasses.replace(plain, detectors=CityDetectors(cameras=((some, 150.0),))))
    own = {lane for signal in net.signals if signal.name == some for lane in signal.lanes}
    assert own < stretches.keys()
    metres = dict(zip(net.lane_index, net.lane_length_m, strict=True))
    for lane in own:
        assert stretches[lane][0][0] == pytest.approx(max(0, metres[lane] - 150))
    everything = seen(dataclasses.replace(plain, detectors=CityDetectors(cameras=(("all", 150.0),))))
    assert everything.keys() > stretches.keys()


def play(scene, policy="max_pressure", seconds=300, **options):
    """Play one episode; return what the detectors showed at each decision, the true vehicles, phases and rewards."""
    env = TrafficEnv(scene, **options)
    controller = find(policy)(planning_context(env))
    rows = []
    try:
        env.reset(1)
        controller.reset(1, env.view)
        while env.now < seconds:
            shown, every, failed = env.view.vehicles, env.vehicles, env.view.failed
            phases = controller.act(env.view)
            reward, _ = env.step(phases)
            rows.append((shown, every, failed, phases.tolist(), reward, env.obs.copy()))
    finally:
        env.close()
    return env, rows


def test_policies_see_the_vehicles_there_and_no_others(detectors):
    scene = dataclasses.replace(scenario.load("cross"), detectors=CityDetectors((detectors,)))
    stretches, (env, rows) = seen(scene), play(scene)
    lanes, count = list(env.net.lane_index), 0
    for shown, every, failed, *_ in rows:
        true = zip(every.ids, every.lane.tolist(), every.pos_m.tolist(), strict=True)
        expected = [name for name, lane, pos_m in true if any(a <= pos_m <= b for a, b in stretches.get(lanes[lane], ()))]
        assert list(shown.ids) == expected
        count += len(expected)
        assert {lanes[i] for i in np.flatnonzero(~failed)} == stretches.keys()
    assert 0 < count < sum(len(every.ids) for _, every, *_ in rows)


def test_a_camera_as_far_as_detection_shows_what_is_seen_without_detectors():
    plain = scenario.load("cross")
    (_, before), (_, after) = (
        play(one) for one in (plain, dataclasses.replace(plain, detectors=CityDetectors(cameras=(("all", 200.0),))))
    )
    assert [row[3] for row in before] == [row[3] for row in after]
    assert_allclose([row[4] for row in before], [row[4] for row in after])


def test_disturbances_come_on_top(detectors):
    scene = dataclasses.replace(scenario.load("cross"), detectors=CityDetectors((detectors,)))
    _, rows = play(scene, disturbance=Disturbance(blind=1.0))
    assert not any(shown.ids for shown, *_ in rows)
    assert all(failed.all() for _, _, failed, *_ in rows)


def test_a_pilot_sees_as_much_as_the_program(tmp_path, detectors):
    folder = network_with(tmp_path / "seen_cross", "cross", detectors={"files": [str(detectors)]})
    scene = scenario.load(str(folder))
    _, rows = play(scene)
    chosen = piloted(Pilot("max_pressure", str(folder)), scene, 1, tmp_path, 300)
    assert [[choice["A0"]] for choice in chosen] == [row[3] for row in rows]
    _, blind = play(scenario.load("cross"))
    assert [row[3] for row in rows] != [row[3] for row in blind]


def test_a_training_with_other_detectors_is_another_one(detectors):
    plain = scenario.load("cross")
    other = dataclasses.replace(plain, detectors=CityDetectors((detectors,)))
    before, here = fingerprint.of_training(plain, 200.0), fingerprint.of_training(other, 200.0)
    assert len(fingerprint.training_differences(before, here)) == 1
    assert len(fingerprint.training_differences(here, before)) == 1
    assert fingerprint.training_differences(here, here) == []


def test_what_reads_sumo_itself_is_refused(detectors):
    scene = dataclasses.replace(scenario.load("cross"), detectors=CityDetectors((detectors,)))
    with pytest.raises(UserError, match="reads SUMO itself, not the detectors of cross; use movements or lanes"):
        TrafficEnv(scene, config=SimConfig(observation="sumo-rl"))


def test_a_part_keeps_the_detectors_that_lie_in_it(tmp_path):
    seeing = {"files": ["all.add.xml"], "cameras": {"A0": 70, "B1": 80}}
    folder = network_with(tmp_path / "seen_grid", "grid2x2", warmup_s=60, detectors=seeing)
    text = '<additional><e1Detector id="in" lane="B0A0_0" pos="9"/><e1Detector id="out" lane="right1B1_0" pos="9"/></additional>'
    (folder / "all.add.xml").write_text(text, encoding="utf-8")
    cut.run(str(folder), ["A0"], 60.0, "seen_corner", tmp_path / "out", "by a test")
    part = scenario.load(str(tmp_path / "out/seen_corner"))
    assert part.detectors.cameras == (("A0", 70.0),)
    assert 'id="in"' in part.detectors.files[0].read_text(encoding="utf-8")
    assert 'id="out"' not in part.detectors.files[0].read_text(encoding="utf-8")
    assert part.warmup_s == 60


BAD = {
    "[]": "detectors must have files or cameras, or be left out; got []",
    "{loops: x}": "detectors: field loops not found",
    "{files: x}": "detectors.files must be a list of SUMO additional files; got 'x'",
    "{files: [lacking.xml]}": "lacking.xml does not exist",
    "{cameras: [80]}": "detectors.cameras must be ranges in metres by signal, or for all; got [80]",
    "{cameras: {all: 0}}": "detectors.cameras of all must be a range above 0 m; got 0",
    "{cameras: {all: far}}": "detectors.cameras of all must be a range above 0 m; got 'far'",
    "{cameras: {A1: 80}}": "detectors.cameras: agent A1 not found (available: A0)",
    '<e1Detector id="d" lane="no_0" pos="1"/>': "e1Detector d: lane no_0 is not in the network; correct it",
    '<e1Detector id="d" lane="top0A0_0"/>': "e1Detector d: it has no pos; say where on the lane it is [m]",
    '<e1Detector id="d" pos="1"/>': "e1Detector d: it has no lane; give it one",
    '<e1Detector id="d" lane="top0A0_0" pos="here"/>': "e1Detector d: pos",
    '<e1Detector id="d" lane="top0A0_0" pos="9999"/>': "e1Detector d: it lies outside its lane of",
    '<e2Detector id="d" lane="top0A0_0" pos="10"/>': "e2Detector d: it has neither endPos nor length; give one of them [m]",
    '<e2Detector id="d" lane="top0A0_0" pos="10" endPos="5"/>': "e2Detector d: it lies outside its lane of",
    '<busStop id="d" lane="top0A0_0"/>': "no e1Detector or e2Detector in it",
}


@pytest.mark.parametrize("number", range(len(BAD)))
def test_detectors_that_cannot_be_are_one_line(number, home, tmp_path, capfd):
    given, says = list(BAD.items())[number]
    text = given if given.startswith("<") else ""
    field = {"files": ["d.add.xml"]} if text else yaml.safe_load(given)
    folder = network_with(tmp_path / f"seen{number}", "cross", detectors=field)
    (folder / "d.add.xml").write_text(f"<additional>{text}</additional>", encoding="utf-8")
    assert home.main(f"evaluate --network {folder} --policy max_pressure") == 2
    assert says in " ".join(capfd.readouterr().err.split())


def test_lanes_without_a_detector_count_as_failed():
    """Cameras look upstream: nobody sees the roads that lead out of the network, and `movements` has an input for that."""
    plain = scenario.load("cross")
    env, rows = play(dataclasses.replace(plain, detectors=CityDetectors(cameras=(("all", 200.0),))))
    approaches = np.isfinite(env.net.detector_coverage.offset_m).any(axis=1)
    assert_array_equal(rows[0][2], ~approaches)
    _, before = play(plain)
    links = [np.array([row[5] for row in some])[:, 0, : 17 * 12].reshape(len(some), 12, 17) for some in (before, rows)]
    assert_allclose(links[0][..., :9], links[1][..., :9])
    assert not links[0][..., 15:].any()
    assert not links[1][..., 15].any()
    assert links[1][..., 16].all()
