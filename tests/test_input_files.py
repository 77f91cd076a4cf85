"""SUMO's input files: values that cannot be, what is included, and what would be written or read elsewhere."""

import dataclasses
import gzip
import re
import subprocess
from collections import Counter
from xml.etree import ElementTree

import numpy as np
import pytest

from tsc_marl.errors import UserError
from tsc_marl.paths import NETWORKS
from tsc_marl.sim import demand, engine, road_network, scenario
from tsc_marl.sim.demand import Demand
from tsc_marl.sim.env import TrafficEnv

NET = (NETWORKS / "cross" / "cross.net.xml").read_text(encoding="utf-8")
AHEAD = 'from="left0A0" to="A0right0"'
ACROSS = 'from="bottom0A0" to="A0top0"'
ONE = f'<trip id="a" depart="0" {AHEAD}/>'
TIME = "must be a time in seconds or h:m:s"
LANE = re.findall('<lane id="top0A0_0"[^>]*>', NET)[0]
PHASE = '<phase duration="16" state="GGGgrrrrGGGgrrrr"/>'
PROGRAM = '<tlLogic id="A0" type="static" programID="0" offset="0">'


@pytest.fixture
def network(tmp_path):
    """Write a network's folder: cross, with files of one's own."""
    folder = tmp_path / f"town-{tmp_path.name}"
    folder.mkdir()

    def write(net=NET, routes=None, files=None, additional=(), end_s=200):
        texts = {"x.net.xml": net, "x.rou.xml": f"<routes>{routes or ONE}</routes>"}
        for name, text in (texts | (files or {})).items():
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "scenario.yaml").write_text(
            f"net: x.net.xml\nroutes: [x.rou.xml]\nadditional: [{', '.join(additional)}]\n"
            f"begin_s: 0\nend_s: {end_s}\nlicence: x\nsource: x\n",
            encoding="utf-8",
        )
        return scenario.load(str(folder))

    return write


def played(scene, out, drawn=None):
    """Play an episode and return the ids of the vehicles that SUMO loaded."""
    env, done = TrafficEnv(scene, demand=drawn), False
    try:
        env.reset(1, out=out)
        while not done:
            _, done = env.step(np.array([int(env.now) // 30 % n for n in env.n_phases]))
    finally:
        env.close()
    return {trip.get("id") for trip in ElementTree.parse(out / "tripinfo_1.xml").getroot().iter("tripinfo")}


def plain_sumo(scene, *options):
    """Return how many vehicles plain SUMO loads in the window."""
    files = ["-n", scene.net, "-r", ",".join(map(str, scene.routes)), "-b", str(scene.begin_s), "-e", str(scene.end_s)]
    files += ["-a", ",".join(map(str, scene.additional))] if scene.additional else []
    out = scene.net.parent / "plain.xml"
    command = [engine.binary("sumo"), *files, "--statistic-output", out, "--no-step-log", "--max-depart-delay", "-1", *options]
    subprocess.run(command, check=True, capture_output=True)
    vehicles = ElementTree.parse(out).getroot().find("vehicles")
    return int(vehicles.get("loaded"))


# values that cannot be


MANY = "must be at most 100 vehicles a second"
WIDE = 'duration="16"'
STATE = 'state="GGGgrrrrGGGgrrrr"'
FROM = 'from="bottom0A0.150.00" to="A0right0" fromLane="0"'


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (LANE, LANE.replace("13.89", "-1"), "lane top0A0_0: speed must be a speed above 0 [m/s]; got '-1'"),
        (LANE, LANE.replace("13.89", "0"), "lane top0A0_0: speed must be a speed above 0 [m/s]; got '0'"),
        (LANE, LANE.replace("13.89", "nan"), "lane top0A0_0: speed must be a speed above 0 [m/s]; got 'nan'"),
        (LANE, LANE.replace("146.00", "nan"), "lane top0A0_0: length must be a length of at least 0 [m]; got 'nan'"),
        (LANE, LANE.replace("146.00", "-7"), "lane top0A0_0: length must be a length of at least 0 [m]; got '-7'"),
        (LANE, LANE.replace("146.00", "1e12"), "lane top0A0_0: length must be a length of at least 0 [m]; got '1e12'"),
        (WIDE, 'duration="-5"', f"phase of tlLogic A0: duration {TIME}, above 0; got '-5'"),
        (WIDE, 'duration="0"', f"phase of tlLogic A0: duration {TIME}, above 0; got '0'"),
        (WIDE, 'duration="16" minDur="9" maxDur="5"', f"phase of tlLogic A0: maxDur {TIME}, at least minDur 9; got '5'"),
        (WIDE, 'duration="16" minDur="-1"', f"phase of tlLogic A0: minDur {TIME}, at least 0; got '-1'"),
        (STATE, 'state="GGGgrrrrGGGgrrXr"', "state must be of GOYgorsuy, not X; got 'GGGgrrrrGGGgrrXr'"),
        (STATE, 'state="GGGg"', "phase of tlLogic A0: state must be 4 characters long, as the first phase"),
        ('offset="0"', 'offset="nan"', f"tlLogic A0: offset {TIME}, or begin; got 'nan'"),
        (FROM, FROM.replace('"0"', '"9"'), "(connection from bottom0A0.150.00 to A0right0: it joins what is not there)"),
        (FROM, FROM.replace("A0right0", "no"), "(connection from bottom0A0.150.00 to no: it joins what is not there)"),
        (FROM, FROM.replace("fromLane", "lane"), "attribute 'fromLane' is missing)"),
        ('via=":A0_8_0"', 'via="no"', "connection from bottom0A0.150.00 to A0right0: via must be a lane of the file; got 'no'"),
        ("</net>", f"{PROGRAM}{PHASE}</tlLogic></net>", "tlLogic A0 0 is there twice; remove one of them"),
        ("</net>", f"{ONE}</net>", "trip a in a network file; move it to a route or additional file"),
        ("</net>", '<include href="more.xml"/></net>', "include more.xml in a network file"),
        ("</net>", '<edgeData id="e" file="/tmp/e.xml"/></net>', "edgeData e: file='/tmp/e.xml' makes SUMO write a file"),
        ("</net>", '<timedEvent type="SaveTLSStates" dest="s.xml"/></net>', "dest='s.xml' makes SUMO write a file"),
        (PHASE, f'<param key="file" value="/tmp/d.xml"/>{PHASE}', "value='/tmp/d.xml' makes SUMO write a file"),
    ],
)
def test_a_network_that_cannot_be(old, new, says, network):
    assert old in NET
    scene = network(NET.replace(old, new, 1))
    with pytest.raises(UserError, match=rf"^{re.escape(str(scene.net))}: .*{re.escape(says)}"):
        road_network.of(scene)


@pytest.mark.parametrize(
    ("routes", "says"),
    [
        (f'<flow id="f" begin="0" end="9" period="exp(1e9)" {AHEAD}/>', f"flow f: period {MANY}"),
        (f'<flow id="f" begin="0" end="9" vehsPerHour="1e9" {AHEAD}/>', f"flow f: vehsPerHour {MANY}"),
        (f'<flow id="f" begin="0" end="9" number="1000000000" {AHEAD}/>', f"flow f: number {MANY}"),
        (f'<flow id="f" begin="0" end="9" number="-5" {AHEAD}/>', "flow f: number must be a whole number; got '-5'"),
        (f'<flow id="f" begin="0" end="9" number="nan" {AHEAD}/>', "flow f: number must be a whole number; got 'nan'"),
        (f'<flow id="f" begin="0" end="9" probability="1e9" {AHEAD}/>', "flow f: probability must be above 0 and at most 1"),
        (f'<flow id="f" begin="0" end="9" period="exp(nan)" {AHEAD}/>', "flow f: period must be exp(rate) with a rate above 0"),
        (f'<interval begin="9" end="5"><flow id="f" number="2" {AHEAD}/></interval>', "flow f: end must be a time"),
        ('<vType id="t" length="nan"/>', "vType t: length must be above 0 and at most 1000 [m]; got 'nan'"),
        ('<vType id="t" maxSpeed="nan"/>', "vType t: maxSpeed must be finite; got 'nan'"),
        ('<vTypeDistribution id="d"><vType id="t" sigma="nan"/></vTypeDistribution>', "vType t: sigma must be finite; got 'nan'"),
        (f'<trip id="t" depart="0" departPos="nan" {AHEAD}/>', "trip t: departPos must be finite; got 'nan'"),
        (f'<trip id="t" depart="0" {AHEAD}><stop lane="A0right0_0" duration="-5"/></trip>', f"stop of trip t: duration {TIME}"),
        (f'<person id="p" depart="-5"><walk {AHEAD}/></person>', "person p: depart must be a time in seconds or h:m:s; got '-5'"),
    ],
)  # fmt: skip
def test_a_route_file_that_cannot_be(routes, says, network):
    scene = network(routes=routes)
    for read in (scenario.scheduled, lambda scene: TrafficEnv(scene).reset(0)):
        with pytest.raises(UserError, match=rf"^{re.escape(str(scene.routes[0]))}: {re.escape(says)}"):
            read(scene)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"begin_s": -100}, "begin_s must be at least 0; got -100"),
        ({"end_s": 10**9}, "end_s 1000000000 must be at most .*a year"),
    ],
)
def test_a_window_that_cannot_be(changes, says, network):
    path = network().net.parent / "scenario.yaml"
    text = path.read_text(encoding="utf-8")
    for name, value in changes.items():
        text = re.sub(f"{name}: .*", f"{name}: {value}", text)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        scenario.load(str(path.parent))


EVERYTHING = (
    '<vType id="t" length="5" sigma="0.5" maxSpeed="20"/>'
    '<vTypeDistribution id="d"><vType id="u" probability="1"/></vTypeDistribution>'
    f'<interval begin="0" end="50"><flow id="i" number="3" {AHEAD}/></interval><flow id="g" begin="0" period="exp(0.1)" {AHEAD}/>'
    f'<flow id="f" begin="0" end="100" vehsPerHour="600" {ACROSS}/><flow id="h" begin="0" end="100" probability="0.2" {ACROSS}/>'
    f'<trip id="v" depart="0:00:03" departPos="0" {AHEAD}><stop lane="A0right0_0" duration="5"/></trip>'
)
JUNK = ("", "-1", "nan", "x", "1e400", "exp(", None)


def damaged(text):
    """Yield a text with each kind of attribute damaged in each way; None leaves it out."""
    spots = {}
    for element in re.finditer(r"<(\w+)( [^<>]*)>", text):
        for given in re.finditer(r' (\w+)="[^"]*"', element[0]):
            start = element.start()
            spots.setdefault((element[1], given[1]), (start + given.start(), start + given.end()))
    for (_, name), (start, end) in spots.items():
        for value in JUNK:
            yield text[:start] + (f' {name}="{value}"' if value is not None else "") + text[end:]


def test_a_damaged_value_is_one_line_or_read(tmp_path):
    """Whatever stands in an attribute: nothing but an error of one line comes of it."""
    outcomes = Counter()
    for number, text in enumerate([*damaged(NET[NET.index("<net ") :]), *damaged(f"<routes>{EVERYTHING}</routes>")]):
        path = tmp_path / f"{number}.xml"
        path.write_text(text, encoding="utf-8")
        scene = dataclasses.replace(scenario.load("cross"), routes=(path,))
        try:
            _ = road_network.read(path) if text.startswith("<net") else scenario.scheduled(scene)
            outcomes["read"] += 1
        except UserError as error:
            outcomes["refused" if re.fullmatch(r".+: .+", str(error)) else "unclear"] += 1
        path.unlink()
    assert outcomes["read"] > 100
    assert outcomes["refused"] > 100
    assert not outcomes["unclear"]


def test_what_sumo_plays_is_not_refused(network):
    """Values that sumolib does not know, and words in place of numbers."""
    changes = {
        'offset="0"': 'offset="begin"', 'duration="16"': 'duration="0:00:16"', ' programID="0"': "",
        "146.00": "0.05",
    }  # fmt: skip
    net = NET
    for old, new in changes.items():
        assert old in net
        net = net.replace(old, new)
    words = 'departPos="random" departSpeed="max"'
    scene = network(net, f'<vType id="t" speedFactor="norm(1,0.1)"/><trip id="a" type="t" depart="begin" {words} {AHEAD}/>')
    assert road_network.of(scene).signals[0].phases == road_network.of(scenario.load("cross")).signals[0].phases
    assert scenario.scheduled(scene) == plain_sumo(scene) == 1


# what a file includes


INNER = {
    "in/a.xml": f'<routes><include href="deep/b.xml"/><trip id="a" depart="5" {AHEAD}/></routes>',
    "in/deep/b.xml": f'<routes><trip id="b" depart="1" {AHEAD}/></routes>',
}
EDGES = 'edges="left0A0 left0A0.150.00 A0right0"'
ROUTES = f'<routeDistribution id="rd"><route id="r1" {EDGES} probability="1"/></routeDistribution>'
INLINE = ROUTES.replace(' id="rd"', "")
TYPES = '<vTypeDistribution id="td"><vType id="v1" probability="1"/><vType id="v2" probability="1"/></vTypeDistribution>'
CHOSEN = "".join(f'<vehicle id="d{k}" type="td" route="rd" depart="{k}"/>' for k in range(5))
WALK = '<walk edges="left0A0" departPos="10" arrivalPos="40"/>'
FILES = {
    "included": (f'<include href="in/a.xml"/><trip id="c" depart="7" {ACROSS}/>', INNER, 3),
    "included alone": ('<include href="in/a.xml"/>', INNER, 2),
    "distributions": (ROUTES + TYPES + CHOSEN, {}, 5),
    "distributions in vehicles": (f'<vehicle id="o" depart="3">{INLINE}</vehicle>', {}, 1),
    "intervals": (
        f'<interval begin="0" end="40"><flow id="h" vehsPerHour="360" {AHEAD}/></interval>'
        f'<interval begin="20" end="80"><flow id="f" number="6" {AHEAD}/><flow id="g" period="10" {ACROSS}/></interval>', {}, 16),
    "flows": (
        f'<flow id="g" end="60" perHour="600" {ACROSS}/><flow id="h" begin="0:00:05" end="0:01:05" period="0:00:10" {AHEAD}/>'
        f'<flow id="f" begin="9" end="99" number="5" {AHEAD}/>', {}, 21),
    "flows without an end": (f'<flow id="f" number="4" {AHEAD}/><flow id="g" number="2" begin="100" {ACROSS}/>', {}, 6),
    "persons and containers": (
        f'<person id="p" depart="1">{WALK}</person><container id="c" depart="2"><transport {AHEAD} lines="o"/></container>'
        f'<vehicle id="o" depart="3"><route {EDGES}/></vehicle>'
        f'<personFlow id="f" begin="4" end="50" number="3">{WALK}</personFlow>', {}, 1),
    "junctions": (
        '<trip id="a" depart="2" fromJunction="left0" toJunction="right0"/>'
        '<trip id="b" depart="4" fromJunction="top0" to="A0bottom0"/>'
        '<flow id="f" begin="9" end="50" number="4" fromJunction="bottom0" toJunction="top0"/>', {}, 6),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_as_many_vehicles_as_plain_sumo_loads(kind, network, tmp_path):
    """As the file stands, from a copy that is sorted by departure, and from one with a demand of its own."""
    routes, files, count = FILES[kind]
    scene = network(routes=routes, files=files)
    assert plain_sumo(scene, *(["--junction-taz"] if kind == "junctions" else [])) == scenario.scheduled(scene) == count
    ours = played(scene, tmp_path / "ours")
    assert len(ours) == count
    assert len(played(scene, tmp_path / "varied", Demand(scale=1.0001, reroute_share=0.5))) == count
    text = scene.routes[0].read_text(encoding="utf-8").replace("<routes>", f'<routes><trip id="late" depart="150" {ACROSS}/>')
    scene.routes[0].write_text(text, encoding="utf-8")
    unsorted = dataclasses.replace(scene, routes=(scene.routes[0].rename(scene.net.parent / "y.rou.xml"),))
    assert played(unsorted, tmp_path / "sorted") == ours | {"late"}
    assert (tmp_path / "sorted" / "demand_1.rou.xml").is_file()


def test_vehicles_keep_to_their_own_distribution(network, tmp_path):
    """Rerouting swaps ways only among vehicles that start alike."""
    other = ROUTES.replace('"rd"', '"other"').replace('"r1"', '"r2"').replace(EDGES, 'edges="top0A0 top0A0.150.00 A0bottom0"')
    scene = network(routes=ROUTES + other + "".join(
        f'<vehicle id="{way}{k}" route="{way}" depart="{k}"/>' for k in range(9) for way in ("rd", "other")
    ))  # fmt: skip
    demand.write(scene, Demand(reroute_share=1.0), 1, tmp_path / "demand.xml")
    vehicles = ElementTree.parse(tmp_path / "demand.xml").getroot().findall("vehicle")
    assert len(vehicles) == 18
    assert all(vehicle.get("id").startswith(vehicle.get("route")) for vehicle in vehicles)


def test_several_files_and_compressed_ones(network, tmp_path):
    """A compressed file without the ending .gz too."""
    scene = network(routes=f'<trip id="a" depart="9" {AHEAD}/>')
    text = f'<routes><trip id="b" depart="5" {AHEAD}/><trip id="c" depart="1" {AHEAD}/></routes>'
    packed = scene.net.parent / "packed.xml"
    packed.write_bytes(gzip.compress(text.encode()))
    both = dataclasses.replace(scene, routes=(*scene.routes, packed))
    assert scenario.scheduled(both) == 3
    assert played(both, tmp_path) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("href", "says"),
    [
        ("none.xml", r"include href='none.xml': file .*none.xml does not exist"),
        ("/etc/hostname", r"include href='/etc/hostname' leads out of the network's folder"),
        ("../other/secret.xml", r"include href='../other/secret.xml' leads out of the network's folder"),
        ("x.rou.xml", r"include href='x.rou.xml' comes back to a file that it is in"),
        ("loop.xml", r"loop.xml: include href='x.rou.xml' comes back to a file that it is in"),
    ],
)
def test_an_include_that_cannot_be_followed(href, says, network):
    files = {"loop.xml": '<routes><include href="x.rou.xml"/></routes>'}
    scene = network(routes=f'<include href="{href}"/>', files=files)
    with pytest.raises(UserError, match=says):
        scenario.scheduled(scene)
    with pytest.raises(UserError, match=says):
        TrafficEnv(scene).reset(0)


BOMB = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("doctype", [f"{BOMB}]>", "<!DOCTYPE x [<!ENTITY i SYSTEM 'file:///etc/hostname'>]>",
                                     '<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd">'])  # fmt: skip
def test_entities_are_refused_before_sumo_sees_them(doctype, network, tmp_path):
    says = "has a DOCTYPE with entities or a file of its own"
    with pytest.raises(UserError, match=f"x.net.xml: {says}"):
        road_network.of(network(NET.replace("<net ", f"{doctype}<net ", 1)))
    scene = network()
    scene.routes[0].write_text(f'{doctype}<routes><trip id="&i;" depart="0" {AHEAD}/></routes>', encoding="utf-8")
    with pytest.raises(UserError, match=f"x.rou.xml: {says}"):
        TrafficEnv(scene).reset(0)
    with pytest.raises(UserError, match=f"x.add.xml: {says}"):
        network(files={"x.add.xml": f"{doctype}<additional/>"}, additional=["x.add.xml"])
    configuration = scene.net.parent / f"{tmp_path.name}.sumocfg"
    configuration.write_text(f"{doctype}<configuration/>", encoding="utf-8")
    with pytest.raises(UserError, match=f".sumocfg: {says}"):
        scenario.load(str(configuration))


# what SUMO would write


def test_outputs_lie_in_the_folder_of_the_run(network, tmp_path):
    """Of detectors in additional files, of devices in route files, wherever their names point; signal programs as before."""
    aside = tmp_path / "aside"
    aside.mkdir()
    detectors = (
        '<e1Detector id="d" lane="A0right0_0" pos="9" period="50" file="e1.xml"/>'
        f'<laneAreaDetector id="l" lane="A0right0_0" pos="0" endPos="30" period="50" file="{aside}/e2.xml"/>'
        '<edgeData id="e" file="../edges.xml"/><timedEvent type="SaveTLSStates" source="A0" dest="tls.xml"/>'
    )
    device = f'<param key="has.ssm.device" value="true"/><param key="device.ssm.file" value="{aside}/ssm.xml"/>'
    scene = network(
        routes=f'<vType id="t">{device}</vType><trip id="a" type="t" depart="0" {AHEAD}/>',
        files={"x.add.xml": f"<additional>{detectors}</additional>"}, additional=["x.add.xml"],
    )  # fmt: skip
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    assert played(scene, out) == {"a"}
    for name in ("x_1_e1.xml", "x_1_edges.xml", "x_1_tls.xml"):
        assert (out / name).stat().st_size > 0
    assert list(out.glob("x_1_*e2.xml"))
    assert list(out.glob("demand_1_*ssm.xml"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents} == before


def test_additional_files_of_one_stem_are_all_in_force(network, tmp_path):
    names = ("x.first.add.xml", "x.second.add.xml", "more/x.add.xml")
    files = {
        name: f'<additional><vType id="t{i}"/><edgeData id="e{i}" file="edges.xml"/></additional>' for i, name in enumerate(names)
    }
    trips = "".join(f'<trip id="{i}" type="t{i}" depart="{i}" {AHEAD}/>' for i in range(len(names)))
    scene = network(routes=trips, files=files, additional=names)
    assert played(scene, tmp_path / "out") == {"0", "1", "2"}
    assert len(list((tmp_path / "out").glob("x_1*_edges.xml"))) == len(names)


def test_an_additional_file_that_reads_elsewhere(network):
    text = '<additional><rerouter id="r" edges="left0A0" file="/etc/hostname"/></additional>'
    with pytest.raises(UserError, match="rerouter r: file='/etc/hostname' leads out of the network's folder"):
        network(files={"x.add.xml": text}, additional=["x.add.xml"])


# programs


def with_program(steps):
    """Return cross with another program."""
    rows = "".join(f'<phase duration="{seconds}" state="{state}"/>' for state, seconds in steps)
    return re.sub("<tlLogic.*</tlLogic>", f"{PROGRAM}{rows}</tlLogic>", NET, flags=re.DOTALL)


GREEN, CROSS = "GGGgrrrrGGGgrrrr", "rrrrGGGgrrrrGGGg"


def test_a_link_that_is_green_only_while_others_change_is_served(network):
    """Links 3 and 11 are green in no step but one with yellow: what remains without the yellow is a phase."""
    steps = [("GGGrrrrrGGGrrrrr", 20), ("yyyGrrrryyyGrrrr", 5), ("rrryrrrrrrryrrrr", 3), ("rrrruuuurrrruuuu", 1), (CROSS, 20)]
    read = road_network.of(network(with_program(steps)))
    assert read.signals[0].phases == ("GGGrrrrrGGGrrrrr", "rrrGrrrrrrrGrrrr", CROSS)
    assert read.notes == ("signal A0 gives links 3, 11 green only while others change: phase rrrGrrrrrrrGrrrr serves them",)


def test_what_is_noted_of_programs(tmp_path):
    def read(name, *steps):
        (tmp_path / name).write_text(with_program(steps), encoding="utf-8")
        return road_network.read(tmp_path / name)

    repeated = read("repeated.net.xml", (GREEN, 20), (CROSS, 20), (GREEN, 9))
    assert repeated.signals[0].phases == (GREEN, CROSS)
    assert repeated.notes == ("signal A0 repeats 1 of its 3 green phases: equal ones are one action",)
    moment = "rrrGrrrrrrrGrrrr"
    short = read("short.net.xml", (GREEN, 20), (moment, 1), (CROSS, 20))
    assert short.signals[0].phases == (GREEN, moment, CROSS)
    assert short.notes == (f"signal A0 shows the green {moment} for 3 s or less: a phase, or a moment of a change?",)
    never = read("never.net.xml", (GREEN, 20), ("rrrrGGGrrrrrGGGr", 20))
    assert never.notes == ("signal A0 never gives links 7, 15 green: who wants to pass there waits for ever",)


def test_the_program_in_an_additional_file_is_in_force(network, tmp_path):
    own = f'<tlLogic id="A0" type="static" programID="peak" offset="0"><phase duration="9" state="{GREEN}"/>'
    own += f'<phase duration="9" state="{CROSS}"/></tlLogic><WAUT id="w" refTime="0" startProg="peak"/>'
    scene = network(files={"x.add.xml": f"<additional>{own}</additional>"}, additional=["x.add.xml"])
    env = TrafficEnv(scene)
    assert env.net.signals[0].phases == (GREEN, CROSS)
    assert env.net.signals[0].program == "peak"
    assert env.net.notes == ("WAUT w changes programs by the clock: the agents' lights do not follow it",)
    env.reset(1, out=tmp_path, sumo_controlled=True)
    assert env.engine.api.trafficlight.getProgram("A0") == "peak"
    env.close()


def test_a_ramp_meter_is_an_agent_with_green_and_red(network, tmp_path):
    nodes = (
        '<nodes><node id="r" x="0" y="0"/><node id="t" x="200" y="0" type="traffic_light"/><node id="e" x="400" y="0"/></nodes>'
    )
    edges = '<edges><edge id="rt" from="r" to="t"/><edge id="te" from="t" to="e"/></edges>'
    program = (
        '<tlLogic id="t" type="static" programID="0" offset="0"><phase duration="2" state="G"/><phase duration="4" state="r"/>'
    )
    (tmp_path / "n.nod.xml").write_text(nodes, encoding="utf-8")
    (tmp_path / "n.edg.xml").write_text(edges, encoding="utf-8")
    (tmp_path / "n.tll.xml").write_text(f"<tlLogics>{program}</tlLogic></tlLogics>", encoding="utf-8")
    files = ["-n", "n.nod.xml", "-e", "n.edg.xml", "-i", "n.tll.xml", "-o", "n.net.xml"]
    subprocess.run([engine.binary("netconvert"), *files], check=True, capture_output=True, cwd=tmp_path)
    scene = network((tmp_path / "n.net.xml").read_text(encoding="utf-8"), '<flow id="f" end="90" period="5" from="rt" to="te"/>')
    env = TrafficEnv(scene)
    assert env.net.signals[0].phases == ("G", "r")
    assert env.net.notes == ("signal t is a ramp meter: its actions are green and red",)
    shown, done = set(), False
    env.reset(1, out=tmp_path / "out")
    while not done:
        _, done = env.step(np.array([int(env.now) // 10 % 2]))
        shown.update(env.engine.states(["t"]))
    assert shown == {"G", "r"}
    assert env.metrics()["arrived"] == 18
