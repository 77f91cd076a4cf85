"""A part of a network: its signals are as in the whole, and so is the traffic through them."""

from collections import Counter
from xml.etree import ElementTree

import pytest
import yaml
from helpers.cli import one_line

from tsc_marl.city import cut
from tsc_marl.cli.main import main
from tsc_marl.errors import UserError
from tsc_marl.sim import network_file, road_network, scenario
from tsc_marl.sim.env import TrafficEnv

WHOLE = "grid2x2"
ADDITIONAL = """<additional><busStop id="in" lane="A0B0_0"/><busStop id="out" lane="B1right1_0"/>
<laneAreaDetector id="d" lane="A0B0_0" file="d.xml"/><rerouter id="r" edges="A0B0"/></additional>"""
ROUTES = """<routes><vType id="bus" vClass="bus"/>
<vehicle id="b" type="bus" depart="5" departPos="10" arrivalPos="20"><route edges="right1B1 right1B1.110.00 B1B0 B1B0.110.00 B0A0
B0A0.110.00 A0left0"/></vehicle>
<vehicle id="s" type="bus" depart="20"><route edges="left0A0 left0A0.110.00 A0B0 A0B0.110.00 B0right0"/>
<stop busStop="in" duration="20"/></vehicle>
<vehicle id="back" type="bus" depart="30"><route edges="left0A0 left0A0.110.00 A0B0 A0B0.110.00 B0B1 B0B1.110.00 B1A1 B1A1.110.00
A1A0 A1A0.110.00 A0left0"/><stop busStop="in" duration="5"/><stop lane="A1A0_0" endPos="50" duration="5"/></vehicle>
<vehicle id="late" depart="598"><route edges="right0B0 right0B0.110.00 B0A0 B0A0.110.00 A0left0"/></vehicle>
<flow id="elsewhere" begin="0" end="99" number="3" from="top1B1" to="B1right1"/>
<person id="p" depart="3"><walk edges="A0B0"/></person></routes>"""


def passing(scene, edges, path):
    """Vehicles on each edge of a scenario's episode with its own programs."""
    env = TrafficEnv(scene)
    try:
        env.reset(0, sumo_controlled=True, extra_options=["--vehroute-output", str(path), "--vehroute-output.exit-times",
                                                          "--vehroute-output.write-unfinished"])  # fmt: skip
        env.engine.advance(float(scene.end_s))
    finally:
        env.close()
    routes = list(ElementTree.parse(path).iter("route"))
    return Counter(
        edge
        for route in routes
        for edge, left in zip(route.get("edges").split(), route.get("exitTimes").split(), strict=True)
        if edge in edges and left != "-1"
    )


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    out = tmp_path_factory.mktemp("cut")
    cut.run(WHOLE, ["A0"], 120.0, "corner", out, "by a test")
    assert [path.name for path in out.iterdir()] == ["corner"]  # nothing else is left
    return scenario.read(out / "corner" / scenario.FILE, "corner")


def test_a_signal_is_whole_in_the_part(part):
    (before,) = (signal for signal in road_network.of(scenario.load(WHOLE)).signals if signal.name == "A0")
    (after,) = road_network.of(part).signals
    assert (after.phases, after.lanes, after.program) == (before.phases, before.lanes, before.program)
    links = [[(link.link, link.in_lane, link.out_lane) for link in signal.links] for signal in (before, after)]
    assert links[0] == links[1]
    assert part.signals == ("A0",)
    assert WHOLE in part.source


def test_as_many_vehicles_pass_a_signal_as_in_the_whole(part, tmp_path):
    (signal,) = road_network.of(part).signals
    edges = {road_network.edge_of(lane) for lane in signal.lanes}
    whole, cut_out = (passing(scene, edges, tmp_path / "routes.xml") for scene in (scenario.load(WHOLE), part))
    assert whole.keys() == cut_out.keys() == edges
    for edge, number in whole.items():
        assert number > 10
        assert cut_out[edge] == pytest.approx(number, abs=max(2, 0.05 * number))


def test_a_signal_at_the_border_keeps_its_program_on_the_links_that_are_left(tmp_path):
    """With two opposite corners, two links of each of the other signals lie in the part."""
    net, _ = network_file.read(scenario.load(WHOLE).net)
    edges = cut.edges_around(net, ["A0", "B1"], 115.0)
    city = cut.City(tmp_path, tmp_path, tmp_path / "p.net.xml", 0, 600)
    part = cut._roads(scenario.load(WHOLE), city, edges)
    left = {tls.getID(): len(tls.getConnections()) for tls in part.getTrafficLights()}
    assert left == {"A0": 12, "A1": 2, "B0": 2, "B1": 12}
    for name in left:
        cut._check_program(net.getTLS(name), part.getTLS(name), whole=name in ("A0", "B1"))
    with pytest.raises(UserError, match="keeps 2 of its 12 links"):
        cut._check_program(net.getTLS("A1"), part.getTLS("A1"), whole=True)


@pytest.fixture
def own(tmp_path):
    """The grid with a bus, stops, limits and things that a part cannot have."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.net.xml").write_bytes(scenario.load(WHOLE).net.read_bytes())
    (folder / "own.rou.xml").write_text(ROUTES)
    (folder / "own.add.xml").write_text(ADDITIONAL)
    raw = {"net": "own.net.xml", "routes": ["own.rou.xml"], "additional": ["own.add.xml"], "begin_s": 0, "end_s": 600}
    raw |= {"licence": "MIT", "source": "a test", "collision_action": "warn"}
    raw["limits"] = {"A0": {"min_green_s": 7, "phases": [0, 1, 2, 3]}, "B1": {"min_green_s": 9}}
    (folder / scenario.FILE).write_text(yaml.safe_dump(raw))
    return folder


def test_what_belongs_to_the_part_comes_along(own, tmp_path, caplog):
    caplog.set_level("INFO", logger="tsc_marl")
    out = tmp_path / "out"
    assert main(["cut", "--from", str(own), "--signals", "A0", "--around-m", "120", "--out", str(out)]) == 0
    part = scenario.read(out / "own-part" / scenario.FILE, "own-part")
    (routes,), (additional,) = part.routes, part.additional
    assert [element.get("id") for element in ElementTree.parse(additional).getroot()] == ["in", "d"]
    assert {name: limits.min_green_s for name, limits in part.limits} == {"A0": 7}
    assert part.collision_action == "warn"
    b, s = (next(v for v in ElementTree.parse(routes).iter("vehicle") if v.get("id") == name) for name in ("b", "s"))
    assert b.find("route").get("edges").split()[-1] == "A0left0"
    assert "departPos" not in b.attrib  # it was for another edge
    assert b.get("arrivalPos") == "20"
    assert float(b.get("depart")) > 15
    assert (s.get("depart"), s.find("stop").get("busStop")) == ("20.00", "in")
    assert {v.get("id") for v in ElementTree.parse(routes).iter("vehicle")} == {"b", "s", "back_part0", "back_part1"}
    assert len(list(ElementTree.parse(routes).iter("stop"))) == 2
    assert "stops left out, of vehicles that leave the part and come back: 1" in caplog.text
    assert not [v for v in ElementTree.parse(routes).iter("person")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("--from grid2x3 --signals A0", "network grid2x3 not found; did you mean grid2x2?"),
        ("--from grid2x2 --signals A00", "signal A00 not found; did you mean A0?"),
        ("--from grid2x2", "signals needs at least one entry"),
        ("--from grid2x2 --signals A0 --network taken", "taken exists already"),
        ("--from grid2x2 --signals A0 --around-m -1", "around"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(line, reason, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    assert main(["cut", "--out", str(tmp_path), *line.split()]) == 2
    assert reason in one_line(capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_part_without_vehicles_is_refused(own, tmp_path):
    only = '<routes><vehicle id="v" depart="0"><route edges="left0A0 left0A0.110.00 A0left0"/></vehicle></routes>'
    (own / "own.rou.xml").write_text(only.replace("A0left0", "A0A1"))
    lonely = own.rename(tmp_path / "lonely")  # a process knows one network of a name
    with pytest.raises(UserError, match="no vehicle comes into this part"):
        cut.run(str(lonely), ["B1"], 0.0, "empty", tmp_path / "out", "by a test")
    assert not list((tmp_path / "out").iterdir())
