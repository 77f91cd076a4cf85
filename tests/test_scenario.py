"""Networks by name, folder and `.sumocfg` file: one plain name each, and what is wrong in one line."""

import logging
import re
import shutil
from dataclasses import replace

import pytest

from tsc_marl.errors import UserError
from tsc_marl.evaluation import signal_log
from tsc_marl.paths import NETWORKS
from tsc_marl.rollout.types import Task
from tsc_marl.sim import fingerprint, scenario
from tsc_marl.sim.env import TrafficEnv

SUMOCFG = """<configuration>
  <input><net-file value="cross.net.xml"/><route-files value="cross.rou.xml"/>{input}</input>
  <time><begin value="0"/>{time}</time>
</configuration>"""
END = '<end value="0:05:00"/>'
FIELDS = {"net": "cross.net.xml", "routes": "[cross.rou.xml]", "begin_s": 0, "end_s": 300, "licence": "x", "source": "x"}


@pytest.fixture
def folder(tmp_path):
    """Make a folder with cross's files, of a name of its own: a process remembers the networks that it uses."""
    own = tmp_path / f"town-{tmp_path.name}"
    own.mkdir()
    for name in ("cross.net.xml", "cross.rou.xml"):
        shutil.copy(NETWORKS / "cross" / name, own)
    return own


def write_sumocfg(folder, text):
    path = folder / f"{folder.name}.sumocfg"
    path.write_text(text, encoding="utf-8")
    return path


def write_yaml(folder, **changes):
    (folder / "scenario.yaml").write_text(
        "".join(f"{key}: {value}\n" for key, value in (FIELDS | changes).items()), encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize("path", ["cross", "./cross", "cross/", "../networks/cross", "cross/scenario.yaml"])
def test_every_way_to_a_named_network_has_its_plain_name(path, monkeypatch):
    monkeypatch.chdir(NETWORKS)
    assert scenario.load(path) == scenario.load("cross")
    assert scenario.reference(path) == "cross"


def test_a_folder_elsewhere_is_found_by_its_name_from_then_on(folder):
    write_yaml(folder)
    first = scenario.load(str(folder))
    assert first.name == folder.name
    assert scenario.load(folder.name) == first
    assert scenario.reference(folder.name) == str(folder)
    assert Task(f"{folder}/").network == folder.name


def test_two_networks_of_one_name_are_refused(folder):
    other = folder.parent / "cross"
    shutil.copytree(write_yaml(folder), other)
    with pytest.raises(UserError, match="same name"):
        scenario.load(str(other))


def test_sumocfg_gives_net_routes_and_window(folder):
    scene = scenario.load(str(write_sumocfg(folder, SUMOCFG.format(input="", time=END))))
    assert scene.name == folder.name
    assert (scene.net, scene.routes) == (folder / "cross.net.xml", (folder / "cross.rou.xml",))
    assert (scene.begin_s, scene.end_s) == (0, 300)
    assert scenario.scheduled(scene) > 0


def test_names_of_files_in_a_sumocfg_are_read_as_sumo_reads_them(folder, monkeypatch):
    monkeypatch.setenv("TOWN", str(folder))
    (folder / "cross.net.xml").rename(folder / "my town.net.xml")
    text = SUMOCFG.format(input="", time=END).replace("cross.net.xml", "my%20town.net.xml")
    assert "my%20town" in text
    scene = scenario.load(str(write_sumocfg(folder, text.replace("cross.rou.xml", "${TOWN}/cross.rou.xml"))))
    assert (scene.net, scene.routes) == (folder / "my town.net.xml", (folder / "cross.rou.xml",))


def test_options_that_cannot_be_taken_over_are_a_line_each(folder, caplog):
    more = '<random v="true"/><scale value="2"/><lateral-resolution value="0.8"/></config'
    text = SUMOCFG.format(input="", time=f'{END}<step-length value="0.5"/>').replace("</config", more)
    with caplog.at_level(logging.WARNING):
        path = str(write_sumocfg(folder, text))
        scenario.load(path)
        assert scenario.load(path).options == (("lateral-resolution", "0.8"), ("step-length", "0.5"))
    assert [record.getMessage().split("option ")[1].split()[0] for record in caplog.records] == ["random", "scale"]


def test_options_reach_sumo_and_the_settings_of_a_run(folder):
    scene = scenario.load(str(write_yaml(folder, options="{step-length: 0.5, ignore-route-errors: true}")))
    plain = replace(scene, options=())
    assert fingerprint.of_scenario(scene)["sumo_options"].endswith("--ignore-route-errors true --step-length 0.5")
    assert fingerprint.of_scenario(plain) != fingerprint.of_scenario(scene)
    steps = []
    for one in (scene, plain):
        env = TrafficEnv(replace(one, end_s=60))
        env.reset(0, out=folder / "out")
        done = False
        while not done:
            _, done = env.step(env.avail.argmax(axis=1))
        env.close()
        times = re.findall(r'time="([0-9.]+)"', (folder / "out" / "tls_0.xml").read_text(encoding="utf-8"))
        steps.append({float(time) % 1 for time in times})
        assert len(next(iter(signal_log.read(folder / "out" / "tls_0.xml").values()))) == 60
    assert steps == [{0, 0.5}, {0}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("{scale: 2}", r"scale cannot be passed on to SUMO: .* set --demand.scale"),
        ("{tripinfo-output: x}", "tripinfo-output cannot be passed on"),
        ("{device.rerouting.output: x}", "device.rerouting.output cannot be passed on"),
        ("{step-length: 0.3}", "step-length must be 1 s or a part of it.*0.3"),
        ("{step-length: soon}", "step-length must be 1 s or a part of it.*soon"),
        ("{lateral-resolution: [1]}", "lateral-resolution must be a text"),
        ("[step-length]", "options must be names and values"),
    ],
)
def test_options_that_are_refused(options, says, folder):
    with pytest.raises(UserError, match=says):
        scenario.load(str(write_yaml(folder, options=options)))


def test_an_option_that_sumo_cannot_read_is_named(folder):
    env = TrafficEnv(scenario.load(str(write_yaml(folder, options="{lanechange.foo: 1}"))))
    with pytest.raises(UserError, match=r"refused to start: .*lanechange\.foo"):
        env.reset(0)


BUS_STOP = '<additional><busStop id="stop" lane="top0A0_0" startPos="20" endPos="60"/></additional>'
BUS = '<vehicle id="bus" depart="0"><route edges="top0A0 A0bottom0"/><stop busStop="stop" duration="20"/></vehicle>'


def test_additional_files_reach_sumo(folder):
    routes = folder / "cross.rou.xml"
    routes.write_text(re.sub("(<routes[^>]*>)", rf"\1{BUS}", routes.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "stops.add.xml").write_text(BUS_STOP, encoding="utf-8")
    given = SUMOCFG.format(input='<additional-files value="stops.add.xml"/>', time=END)
    scene = scenario.load(str(write_sumocfg(folder, given)))
    assert scene.additional == (folder / "stops.add.xml",)
    env = TrafficEnv(scene)
    env.reset(0)
    env.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SUMOCFG.format(input="", time=""), "end is missing"),
        (SUMOCFG.format(input="", time='<end value="soon"/>'), "end must be a whole number of seconds.*soon"),
        (SUMOCFG.format(input="", time='<end value="-5"/>'), "end is missing"),
        (SUMOCFG.format(input='<additional-files value="no.xml"/>', time=END), "additional file .*no.xml does not exist"),
        ("<configuration/>", "net-file is missing"),
        ("<routes/>", "not a SUMO configuration"),
        ("<configuration>", "not well-formed XML"),
    ],
)
def test_wrong_sumocfg(text, says, folder):
    with pytest.raises(UserError, match=says):
        scenario.load(str(write_sumocfg(folder, text)))


@pytest.mark.parametrize(
    ("changes", "files", "says"),
    [
        ({"additional": "x.add.xml"}, {}, "additional must be a list"),
        ({"additional": "[x.add.xml]"}, {"x.add.xml": f"<additional>{BUS}</additional>"}, "vehicles, such as bus"),
        ({"routes": "[x.add.xml]"}, {"x.add.xml": BUS_STOP}, "root element additional"),
        ({"additional": "[cross.net.xml]"}, {}, "additional file .* has the root element net"),
        ({"net": "x.sumocfg"}, {"x.sumocfg": "<configuration/>"}, "SUMO configuration"),
    ],
)
def test_files_in_the_wrong_field(changes, files, says, folder):
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        scenario.load(str(write_yaml(folder, **changes)))


def test_a_folder_without_a_scenario_says_how_to_make_one(folder):
    with pytest.raises(UserError, match=r"scenario.yaml.*begin_s"):
        scenario.load(str(folder))
    with pytest.raises(UserError, match=r"does not exist"):
        scenario.load(str(folder / "nothing"))
    with pytest.raises(UserError, match=r"neither a folder"):
        scenario.load(str(folder / "cross.net.xml"))
