"""A city of one's own: from a map or SUMO's files to a network that plays, with its counts met and its faults named."""

import csv
import dataclasses
import itertools
from collections import Counter
from xml.etree import ElementTree

import pytest
from helpers import town
from helpers.cli import one_line

from tsc_marl.city import findings, phase_table
from tsc_marl.city.counts import Count
from tsc_marl.cli.main import main
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.sim import network_file, road_network, scenario, signal_sheet
from tsc_marl.sim.env import TrafficEnv

END_S = 600
PHASE_OF_MILL_PATH = "rrrrG"
TRIPS = """<routes><vType id="car" vClass="passenger"/>
<trip id="there" type="car" depart="0" from="27#0" to="27#6"/><trip id="nowhere" type="car" depart="1" from="19#0" to="27#6"/>
<flow id="f" begin="0" end="60" period="20" from="24#0" to="30#3"/>
<person id="p" depart="3"><walk from="27#0" to="27#1"/></person></routes>"""


def run(line, out):
    return main([*["city", "--out"], str(out), *line.split()])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example of the repository as a network, with pedestrians and buses."""
    out = tmp_path_factory.mktemp("city")
    line = f"--from {town.PATH} --pedestrians --transit --rate 1800 --persons 120 --end-s {END_S} --seed 3"
    assert run(line, out) == 0
    assert [path.name for path in out.iterdir()] == ["town"]  # nothing else is left
    return out / "town"


@pytest.fixture(scope="module")
def net(folder):
    return network_file.read(folder / "town.net.xml")[0]


def test_the_example_is_what_its_script_makes(tmp_path):
    town.write(tmp_path / "town.osm")
    assert (tmp_path / "town.osm").read_bytes() == town.PATH.read_bytes()


def test_a_map_becomes_a_network_that_plays(folder, tmp_path):
    scene = dataclasses.replace(scenario.load(str(folder)), end_s=60)
    roads = road_network.of(scene)
    joined = [signal.name for signal in roads.signals if signal.name.startswith("cluster")]
    assert (len(roads.signals), len(joined)) == (12, 3)  # the three at the two carriageways are one signal each
    assert all(signal.crossings for signal in roads.signals)
    assert scenario.scheduled(scenario.load(str(folder))) == pytest.approx(1800 * END_S / 3600, abs=2)  # and a bus
    env, done = TrafficEnv(scene), False
    try:
        act = ControllerPolicy("max_pressure").start(env, 1, out=tmp_path).act
        while not done:
            _, done = env.step(act())
        assert env.metrics()["scheduled"] == scenario.scheduled(scene)
        assert len(env.vehicles.ids) > 10
    finally:
        env.close()


def test_phases_are_told_by_approach_and_turn(folder, net):
    sheets = {sheet.name: sheet for sheet in signal_sheet.sheets(net, road_network.read(folder / "town.net.xml"))}
    walk = next(sheet for sheet in sheets.values() if PHASE_OF_MILL_PATH in sheet.phases)
    main_street, crossing = walk.phases
    assert walk.movements(main_street) == ["east (Main Street): straight", "west (Main Street): straight"]
    assert walk.movements(crossing) == ["crossings: middle"]
    assert (walk.label(main_street), walk.label(crossing)) == ("E-W straight", "walk")
    ring = next(sheet for sheet in sheets.values() if "Ring Road" in sheet.streets and "Main Street" in sheet.streets)
    served = "; ".join(line for phase in ring.phases for line in ring.movements(phase))
    assert "north (Ring Road): straight, left yields, right yields" in served
    assert "west (Main Street): straight, left yields, right yields" in served
    page = (folder / "city.html").read_text(encoding="utf-8")
    assert "12 of 12 signals are agents" in page
    assert all(f"Signal {name}" in page for name in sheets)
    assert "http" not in page.replace("http-equiv", "")  # needs no network


def test_geh_is_that_of_hourly_flows():
    assert Count(("a",), 0, 900, 100).geh(120) == pytest.approx((2 * 80**2 / (400 + 480)) ** 0.5)
    assert Count(("a",), 0, 900, 0).geh(0) == 0


def test_routes_are_sampled_until_they_match_counts(folder, tmp_path, capsys):
    """What is counted is what the random vehicles of the network do."""
    passed = Counter()
    for route in ElementTree.parse(folder / "random.rou.xml").iter("route"):
        edges = route.get("edges").split()
        passed.update((edge,) for edge in edges)
        passed.update(itertools.pairwise(edges))
    at_random = [place for place, _ in passed.most_common()][::7]
    edges, turns = ([place for place in at_random if len(place) == size][:12] for size in (1, 2))
    for name, head, places in (("e.csv", "edge", edges), ("t.csv", "from_edge;to_edge", turns)):
        split = ";" if ";" in head else ","
        rows = [split.join((*place, "7200", "8100", str(passed[place]))) for place in places]
        (tmp_path / name).write_text("\n".join([split.join((head, "begin_s", "end_s", "count")), *rows]), encoding="utf-8")
    counts = f"--counts {tmp_path / 'e.csv'} {tmp_path / 't.csv'}"
    assert run(f"--from {folder / 'town.net.xml'} --network counted {counts}", tmp_path) == 0
    number = len(edges) + len(turns)
    assert number >= 20
    assert f"GEH below 5 at {number} of {number} counts (100%)" in capsys.readouterr().out
    made = Counter()
    for route in ElementTree.parse(tmp_path / "counted" / "counts.rou.xml").iter("route"):
        own = route.get("edges").split()
        made.update((edge,) for edge in own)
        made.update(itertools.pairwise(own))
    with (tmp_path / "counted" / "counts_fit.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert int(row["modelled"]) == made[tuple(row["place"].split(" > "))]
            assert float(row["geh"]) < 5
    assert scenario.load(str(tmp_path / "counted")).begin_s == 7200


def test_a_configuration_keeps_what_it_has(folder, tmp_path, capsys):
    """osmWebWizard's has no end; its trips get routes, one that cannot is left out, all else stays."""
    source = tmp_path / "wizard"
    source.mkdir()
    for name in ("town.net.xml", "stops.add.xml", "transit.rou.xml"):
        (source / name).write_bytes((folder / name).read_bytes())
    (source / "trips.xml").write_text(TRIPS, encoding="utf-8")
    (source / "poly.add.xml").write_text('<additional><poly id="b" color="1,0,0" shape="0,0 1,1 2,0"/></additional>')
    (source / "osm.sumocfg").write_text(
        '<configuration><net-file value="town.net.xml"/><route-files value="trips.xml,transit.rou.xml"/>'
        '<additional-files value="poly.add.xml,stops.add.xml"/><lateral-resolution value="0.8"/></configuration>',
        encoding="utf-8",
    )  # fmt: skip
    assert run(f"--from {source}", tmp_path / "out") == 0
    scene = scenario.load(str(tmp_path / "out" / "wizard"))
    assert (scene.begin_s, scene.end_s, [path.name for path in scene.additional]) == (0, 3600, ["stops.add.xml"])
    assert scene.options == (("lateral-resolution", "0.8"),)
    elements = [element for path in scene.routes for element in ElementTree.parse(path).getroot()]
    ids = {(element.tag, element.get("id")) for element in elements}
    assert {("vehicle", "there"), ("flow", "f"), ("person", "p"), ("vType", "car"), ("flow", "pt_bus_1:0")} <= ids
    assert "trip" not in {element.tag for element in elements}
    assert len([stop for element in elements for stop in element.iter("stop")]) == 4
    assert "1 of 2 left out" in capsys.readouterr().out


def test_phases_are_shown_with_what_they_serve():
    (table,) = phase_table.tables(scenario.load("cologne1"))
    rows = [list(column.cells) for column in table.columns]
    assert rows[:2] == [["0", "1", "2", "3"], ["29", "6", "29", "6"]]
    assert rows[2][:2] == [
        "north: straight, left yields, right, back yields\nsouth: straight, left yields, right, back yields",
        "north: left, back\nsouth: left, back",
    ]
    (sheet,) = signal_sheet.of_scenario(scenario.load("cologne1"))
    assert [sheet.label(phase) for phase in sheet.phases[:2]] == ["N-S straight+(left)+right", "N-S left"]


def test_faults_of_a_network_are_named(folder, net, tmp_path):
    """One movement never green, two that cross both G, a crossing without green, a short lane."""
    tree = ElementTree.parse(folder / "town.net.xml")
    roads = road_network.read(folder / "town.net.xml")
    sheet = next(sheet for sheet in signal_sheet.sheets(net, roads) if set(sheet.streets) == {"Main Street", "Church Street"})
    crossing = next(way for way in sheet.ways if way.is_crossing)
    never = next(way for way in sheet.ways if way.turn == "left" and way.approach == "west")
    straight = [way for way in sheet.ways if way.turn == "straight"]
    one, other = (next(way for way in straight if way.approach == side) for side in ("east", "north"))
    for k, step in enumerate(tree.find(f"tlLogic[@id='{sheet.name}']")):
        state = list(step.get("state"))
        state[crossing.link] = state[never.link] = "r"
        if k == 0:
            state[one.link] = state[other.link] = "G"
        step.set("state", "".join(state))
    tree.write(tmp_path / "faulty.net.xml")
    assert run(f"--from {tmp_path / 'faulty.net.xml'} --rate 300 --end-s 60", tmp_path / "out") == 0
    read, roads = network_file.read(tmp_path / "faulty.net.xml")[0], road_network.read(tmp_path / "faulty.net.xml")
    found = findings.find(read, roads, signal_sheet.sheets(read, roads))
    by_kind = {kind: [one for one in found if one.kind == kind] for kind in findings.KINDS}
    assert [(one.signal, one.element) for one in by_kind["no green"]] == [(sheet.name, never.element)]
    assert [(one.signal, one.element) for one in by_kind["crossing"]] == [(sheet.name, crossing.element)]
    both = {one.element, other.element}
    assert any(all(element in fault.text for element in both) for fault in by_kind["conflict"])
    page = (tmp_path / "out" / "faulty" / "city.html").read_text(encoding="utf-8")
    assert all(fault.element.replace(">", "&gt;") in page for fault in found)


REFUSED = {
    "--from nosuch.osm": "no such file",
    "--from text.osm": "no XML",
    "--from routes.xml": "an XML file of another kind",
    "--from city.osm.pbf": "osmium",
    "--from empty": "without a .sumocfg",
    "--from noroads.osm": "no road",
    "--from nosignal.osm": "--guess-signals",
    "--from broken.osm": "netconvert refuses it",
    "--from {osm} --netconvert no.such.option=1": "netconvert refuses it",
    "--from {osm} --network cross": "give another name",
    "--from {osm} --network ..": "a name has letters",
    "--from {net} --network there": "exists already",
    "--from {net} --counts unknown.csv": "edge 27#O not found; did you mean",
    "--from {net} --counts negative.csv": "count must be at least 0",
    "--from {net} --counts columns.csv": "expected the columns",
    "--from {net} --counts turn.csv": "no turn from edge",
    "--from {net} --rate 5 --counts negative.csv": "different demands",
    "--from {net} --routes text.osm": "not well-formed",
}
FILES = {
    "text.osm": "no map",
    "routes.xml": "<routes/>",
    "city.osm.pbf": "",
    "noroads.osm": '<osm version="0.6"><node id="1" lat="51" lon="9"/></osm>',
    "broken.osm": '<osm version="0.6"><node id="1" lat="51" lon="9">',
    "nosignal.osm": town.PATH.read_text(encoding="utf-8").replace("traffic_signals", "stop"),
    "unknown.csv": "edge,begin_s,end_s,count\n27#O,0,900,3\n",
    "negative.csv": "edge,begin_s,end_s,count\n27#0,0,900,-3\n",
    "columns.csv": "edge,count\n27#0,3\n",
    "turn.csv": "from_edge,to_edge,begin_s,end_s,count\n27#0,30#3,0,900,3\n",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_is_one_line_and_leaves_nothing(line, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    (out / "there").mkdir(parents=True)
    assert run(line.format(osm=town.PATH, net=folder / "town.net.xml"), out) == 2
    assert REFUSED[line] in one_line(capsys.readouterr().err)
    assert [path.name for path in out.iterdir()] == ["there"]
    assert list((out / "there").iterdir()) == []
