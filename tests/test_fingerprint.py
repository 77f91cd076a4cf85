"""Fingerprints: a policy plays on its own signals only, and results of other files are not mixed."""

import gzip
import re
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from helpers.cli import one_line
from helpers.fake_policies import biased

import tsc_marl
from tsc_marl import algos
from tsc_marl.errors import UserError
from tsc_marl.evaluation.evaluate import load_matching_results, write_results
from tsc_marl.paths import NETWORKS
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import EpisodeMetrics
from tsc_marl.sim import fingerprint, road_network, scenario
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.tracking import checkpoint
from tsc_marl.training import study

pytest_plugins = ["helpers.fixtures"]

PHASE = re.compile(r" *<phase .*/>\n")
STOP = '<additional><busStop id="s" lane="top0A0_0" startPos="10" endPos="{end}"/></additional>'
VEHICLE = '<routes><vehicle id="{name}" depart="0"><route edges="top0A0 top0A0.150.00 A0bottom0"/></vehicle></routes>'


@pytest.fixture
def town(tmp_path):
    """Make a network of a name of its own: cross's files, an additional and an included one."""
    folder = tmp_path / f"town-{tmp_path.name}"
    shutil.copytree(NETWORKS / "cross", folder)
    (folder / "stop.add.xml").write_text(STOP.format(end=30), encoding="utf-8")
    (folder / "more.rou.xml").write_text('<routes><include href="one.rou.xml"/></routes>', encoding="utf-8")
    (folder / "one.rou.xml").write_text(VEHICLE.format(name="one"), encoding="utf-8")
    edit(
        folder / "scenario.yaml", 'routes: ["cross.rou.xml"]', "routes: [cross.rou.xml, more.rou.xml]\nadditional: [stop.add.xml]"
    )
    return folder


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def with_phases(order):
    """Write the phases of a network file in another order."""

    def change(text):
        phases = PHASE.findall(text)
        return PHASE.sub("", text).replace("    </tlLogic>", "".join(phases[i] for i in order) + "    </tlLogic>")

    return change


def with_links_changed(text):
    return text.replace('linkIndex="9"', 'linkIndex="x"').replace('linkIndex="10"', 'linkIndex="9"').replace('"x"', '"10"')


def upside_down(text):
    """Write the file anew, edges and connections in the opposite order; comments are lost."""
    root = ElementTree.fromstring(text)
    edges = root.findall("edge")
    for edge in edges:
        root.remove(edge)
    for edge in edges:
        root.insert(1, edge)
    connections = root.findall("connection")
    for connection in connections:
        root.remove(connection)
    root.extend(connections[::-1])
    return ElementTree.tostring(root, encoding="unicode")


def signals(path):
    return fingerprint.of_signals(road_network.read(path))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_phases([4, 1, 2, 3, 0, 5, 6, 7]), "signal A0: phases 0 and 2 have changed places"),
        (with_phases([4, 5, 6, 7, 0, 1, 2, 3]), "signal A0: phases 0, 1, 2, 3 are here 2, 3, 0, 1"),
        (with_phases([0, 1, 2, 3, 4, 5]), "signal A0: phases 3 rrrrrrrGrrrrrrrG is gone, none new"),
        (
            lambda text: text.replace("rrrGrrrrrrrGrrrr", "rrrGrrrrrrGGrrrr"),
            "signal A0: phases 1 rrrGrrrrrrrGrrrr is gone, 1 rrrGrrrrrrGGrrrr new",
        ),
        (
            lambda text: text.replace("top0A0.150.00", "north"),
            "signal A0: lanes top0A0.150.00_0, top0A0.150.00_1, top0A0.150.00_2 are gone, north_0, north_1, north_2 new",
        ),
        (
            lambda text: text.replace('tl="A0"', 'tl="B"').replace('tlLogic id="A0"', 'tlLogic id="B"'),
            "signals that are gone: A0; signals that are new: B",
        ),
        (
            with_links_changed,
            "signal A0: links 10 bottom0A0.150.00_1 -> A0top0_1, 9 bottom0A0.150.00_0 -> A0top0_0 are gone",
        ),
    ],
)
def test_what_a_policy_relies_on_is_named(tmp_path, change, says):
    before, path = NETWORKS / "cross" / "cross.net.xml", tmp_path / "changed.net.xml"
    path.write_text(change(before.read_text(encoding="utf-8")), encoding="utf-8")
    assert "; ".join(fingerprint.signal_differences(signals(before), signals(path))).startswith(says)
    policy = replace(biased(1.0), signals=signals(before))
    task = Task("cross", sim=SimConfig("lanes"))
    assert policy.task_for(task) == task
    object.__setattr__(task, "scenario", replace(task.scenario, net=path))
    with pytest.raises(UserError, match=re.escape(f"the policy of jointq learned on other signals than {path} has: {says}")):
        policy.task_for(task)


@pytest.mark.parametrize(
    "change",
    [
        upside_down,
        lambda text: text.replace("    <edge ", "\n\t<!-- new -->  <edge "),
        lambda text: re.sub(r'shape="[^"]*"', 'shape="0.00,0.00 1.00,1.00"', text),
        lambda text: text.replace('<phase duration="16"', '<phase duration="30"').replace('offset="0"', 'offset="7"'),
        lambda text: text.replace('speed="13.89"', 'speed="8.33"'),
    ],
)
def test_what_does_not_concern_the_signals_is_no_difference(tmp_path, change):
    before, path = NETWORKS / "cross" / "cross.net.xml", tmp_path / "changed.net.xml"
    text = before.read_text(encoding="utf-8")
    path.write_text(change(text), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    assert signals(before) == signals(path)


def test_a_file_that_changes_is_read_again(town):
    path = town / "cross.net.xml"
    before = signals(path)
    edit(path, "rrrGrrrrrrrGrrrr", "rrrGrrrrrrGGrrrr")
    assert signals(path) != before


def test_neighbours_count_where_the_algorithm_uses_them():
    task, none = Task("grid2x2"), {"neighbours": []}
    learned = {name: parts | none for name, parts in signals(task.scenario.net).items()}
    policy = replace(biased(1.0), signals=learned)
    with pytest.raises(UserError, match=r"signal A0: neighbours none is gone, A1, B0 new; .*; 1 more differ; put"):
        policy.task_for(task)
    replace(policy, name="ippo", config=algos.find("ippo").Config()).task_for(task)


def test_files_are_the_same_wherever_they_lie_and_however_they_are_laid_out(town, tmp_path):
    here = fingerprint.of_scenario(scenario.load(str(town)))
    copy = tmp_path / f"copy-{tmp_path.name}"
    shutil.copytree(town, copy)
    edit(copy / "cross.net.xml", "    <edge ", "<!-- again -->\r\n<edge ")
    (copy / "cross.rou.xml.gz").write_bytes(gzip.compress((copy / "cross.rou.xml").read_bytes()))
    edit(copy / "scenario.yaml", "cross.rou.xml", "cross.rou.xml.gz")
    edit(copy / "scenario.yaml", "licence: ", "licence: now ")
    assert fingerprint.of_scenario(scenario.load(str(copy))) == here
    options = "--max-depart-delay -1 --time-to-teleport -1 --collision.action teleport --waiting-time-memory 1000"
    assert here["sumo_options"] == options


@pytest.mark.parametrize(
    ("name", "old", "new", "part"),
    [
        ("cross.rou.xml", 'vehsPerHour="600"', 'vehsPerHour="601"', "demand"),
        ("one.rou.xml", 'id="one"', 'id="two"', "demand"),
        ("scenario.yaml", "[cross.rou.xml, more.rou.xml]", "[more.rou.xml, cross.rou.xml]", "demand"),
        ("stop.add.xml", 'endPos="30"', 'endPos="40"', "additional"),
        ("scenario.yaml", "additional: [stop.add.xml]", "additional: []", "additional"),
        ("scenario.yaml", "end_s: 600", "end_s: 500", "window"),
        ("cross.net.xml", 'speed="13.89"', 'speed="13.88"', "network"),
    ],
)
def test_what_differs_between_two_scenarios_is_named(town, tmp_path, name, old, new, part):
    here = fingerprint.of_scenario(scenario.load(str(town)))
    copy = tmp_path / f"changed-{tmp_path.name}"
    shutil.copytree(town, copy)
    edit(copy / name, old, new)
    there = fingerprint.of_scenario(scenario.load(str(copy)))
    assert {key for key in here if here[key] != there[key]} == {part}


def test_a_file_that_includes_what_does_not_exist(town):
    (town / "one.rou.xml").unlink()
    with pytest.raises(UserError, match=r"more.rou.xml: cannot be read as XML \(.*one.rou.xml"):
        fingerprint.of_files(scenario.load(str(town)))


def test_a_study_on_other_files_trains_again(town):
    def folder():
        (trial,) = study.trials([str(town)], ["ippo"], [0], [])
        return trial.folder

    before = folder()
    edit(town / "cross.rou.xml", "<flow ", "<!-- as before --> <flow ")
    assert folder() == before
    for path, old, new in (
        (town / "cross.rou.xml", 'vehsPerHour="600"', 'vehsPerHour="320"'),
        (town / "scenario.yaml", "end_s: 600", "end_s: 500"),
        (town / "cross.net.xml", 'speed="13.89"', 'speed="8.33"'),
    ):
        edit(path, old, new)
        assert folder() != before
        before = folder()


def test_controllers_are_measured_again_on_other_files(town, tmp_path):
    results, path = {"fixed_time": [EpisodeMetrics(1, {"delay": 7.0})]}, tmp_path / "measured.json"
    write_results(path, Task(str(town)), results)
    assert load_matching_results(path, Task(str(town)), ["fixed_time"], [1]) == results
    edit(town / "stop.add.xml", 'endPos="30"', 'endPos="40"')
    assert load_matching_results(path, Task(str(town)), ["fixed_time"], [1]) == {}


@pytest.fixture
def trained(home, town):
    line = f"train --network {town} --algos ippo --episodes 2 --eval-seeds 1 --baselines --algo.epochs 1 --workers 1"
    assert home.main(f"{line} --sim.observation lanes --sim.detection_m 100") == 0
    return home


def test_a_policy_does_not_play_on_another_network_of_its_name(trained, town, capsys, monkeypatch):
    """By name, from the file for other programs, and when the training goes on."""
    (path,) = trained.folder.glob("runs/*/*/policy.pt")
    evaluate = f"evaluate --network {town} --policy ippo random --eval-seeds 1 --workers 1 --out {trained.folder / 'out'}"
    edit(town / "cross.rou.xml", 'vehsPerHour="600"', 'vehsPerHour="300"')
    assert trained.main(evaluate) == 0  # another demand is another measurement of the same policy
    capsys.readouterr()
    assert trained.main(f"train --resume {trained.training.name}") == 2
    said = one_line(capsys.readouterr().err)
    assert re.search(r"checkpoint.pt was made with other files of town-\S+: demand \w+ \(here \w+\); put them back", said)
    net = town / "cross.net.xml"
    net.write_text(with_phases([4, 1, 2, 3, 0, 5, 6, 7])(net.read_text(encoding="utf-8")), encoding="utf-8")
    says = f"the policy of ippo learned on other signals than {net} has: signal A0: phases 0 and 2 have changed places"
    for line in (evaluate, f"explain --network {town} --policy ippo", f"probe --network {town} --policy ippo --episodes 16"):
        assert trained.main(line) == 2
        assert says in one_line(capsys.readouterr().err)
    policy = tsc_marl.load_policy(path)
    assert (policy.policy.sim.detection_m, policy.timing.yellow_s) == (100.0, 2)
    with pytest.raises(UserError, match=re.escape(says)):
        tsc_marl.evaluate(town, [policy], seeds=[1], workers=1)


def test_a_checkpoint_of_an_earlier_version_plays_with_a_note(trained, town, tmp_path, caplog):
    old = replace(checkpoint.load(trained.checkpoints[0]), fingerprint={})
    checkpoint.save(old, tmp_path / "old.pt")
    net = town / "cross.net.xml"
    net.write_text(with_phases([4, 1, 2, 3, 0, 5, 6, 7])(net.read_text(encoding="utf-8")), encoding="utf-8")
    line = f"evaluate --network {town} --policy {tmp_path / 'old.pt'} --eval-seeds 1 --workers 1 --out {tmp_path / 'out'}"
    assert trained.main(line) == 0
    assert caplog.text.count("of an earlier version") == 1
    checkpoint.save(old, trained.checkpoints[0])
    assert trained.main(f"train --resume {trained.training.name}") == 0
    assert "ippo began with an earlier version" in caplog.text
