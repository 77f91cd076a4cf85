"""The command line: every mistake is one line and exit code 2; help; evaluate's files; the Makefile."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.cli import ROOT, one_line

from tsc_marl import algos, old_options
from tsc_marl.cli.main import VERBS, main
from tsc_marl.config import ExperimentConfig, command_line, parse, variants
from tsc_marl.config.words import with_switches
from tsc_marl.errors import UserError
from tsc_marl.sim.feedback import SimConfig
from tsc_marl.tracking.policies import policy_labels

pytest_plugins = ["helpers.fixtures"]

MISTAKES = [
    ("trian", "verb trian not found; did you mean train?"),
    ("train --network gird4x4", "network gird4x4 not found; did you mean grid4x4?"),
    ("evaluate --network gird4x4", "network gird4x4 not found; did you mean grid4x4?"),
    ("compare --network gird4x4", "network gird4x4 not found; did you mean grid4x4?"),
    ("networks --network cros", "network cros not found; did you mean cross?"),
    ("train --algos mapo", "algorithm mapo not found; did you mean mappo?"),
    ("train --algos=mapo", "algorithm mapo not found; did you mean mappo?"),
    ("train --algos", "algos needs at least one entry"),
    ("train --algos mappo mappo", "got mappo mappo"),
    ("train --bogus 3", "Unrecognized options: --bogus"),
    ("train --algos mappo --algo.sampled_share 0.5", "Unrecognized options: --algo.sampled_share"),
    ("evaluate --network cross cross", "network needs at least one entry and none twice; got cross cross"),
    ("evaluate --network cross --disturbances nix", "disturbance nix not found"),
    ("evaluate --network cross --demand.scale 0", "demand.scale must lie in (0, 5]; got 0.0"),
    ("train --network cross --eval-demand.reroute-share 2", "demand.reroute_share must lie in [0, 1]; got 2.0"),
    ("evaluate --episodes 3", "Unrecognized options: --episodes"),
    ("train --episodes many", "--episodes: invalid literal for int() with base 10: 'many'"),
    ("train --episodes", "Missing value for argument '--episodes'"),
    ("train --algo.lr fast", "--algo.lr: could not convert string to float: 'fast'"),
    ("train --algo.sharing some", "invalid choice 'some' for argument '--algo.sharing'"),
    ("train --algo.gamma 1.5", "algo.gamma must lie in [0, 1]; got 1.5"),
    (
        "train --algos jointq --algo.advantage one_step_team --algo.sampled_share 0.5",
        "algo.sampled_share 0.5 has no effect with algo.advantage one_step_team",
    ),
    ("train --episodes 5", "episodes 5 is not a multiple of episodes-per-update 2"),
    ("train --episodes 2000000", "episodes must be at most 1000000"),
    ("train --timing.max-red-s 5", "timing.max_red_s 5 is shorter than one change and one green (timing.yellow_s 2"),
    ("train --workers 0", "workers must be at least 1; got 0"),
    ("evaluate --network cross --workers 0", "workers must be at least 1; got 0"),
    ("train --eval-seeds 1 1000000", "the seeds from 1000000 on are for training; got 1000000"),
    ("evaluate --network cross --eval-seeds 1000000", "the seeds from 1000000 on are for training; got 1000000"),
    ("train --eval-seeds -1", "got -1"),
    ("evaluate --network cross --eval-seeds -1", "got -1"),
    ("train --eval-seeds 1 1", "eval-seeds needs at least one entry and none twice; got 1 1"),
    ("evaluate --network cross --eval-seeds 1 1", "eval-seeds needs at least one entry and none twice; got 1 1"),
    ("evaluate --network cross --eval-seeds", "eval-seeds needs at least one entry and none twice; got none"),
    ("train --seeds -1", "seeds must lie in 0 .. 999; got -1"),
    ("train --seeds 3 3", "seeds needs at least one entry and none twice; got 3 3"),
    ("train --algos jointq-selfis", "algorithm jointq-selfis not found; did you mean jointq-selfish?"),
    ("train --timing-preset fild", "timing fild not found; did you mean field?"),
    ("evaluate --network cross --timing-preset fild", "timing fild not found; did you mean field?"),
    ("train --baselines fixed_tim", "controller fixed_tim not found; did you mean fixed_time?"),
    ("train --sim.reward dela", "reward dela not found; did you mean delay?"),
    ("train --metrics dela", "metric dela not found; did you mean delay?"),
    ("evaluate --network cross --metrics co", "metric co not found; did you mean co2?"),
    ("evaluate --network cross --metrics nowhere:Mine", "metric nowhere:Mine: import of nowhere failed"),
    ("train --resume nix", "run nix not found"),
    ("train --resume nix --episodes 400 --algo.lr=0.1", "keeps the settings of that run; leave out --episodes --algo.lr=0.1"),
    ("evaluate --network cross --policy max_presure", "controller max_presure not found; did you mean max_pressure?"),
    ("evaluate --network cross --baseline fixed_tim", "baseline fixed_tim not found; did you mean fixed_time?"),
    ("evaluate --network cross --policy random random", "policy needs at least one entry and none twice"),
    ("evaluate --network cross --policy", "policy needs at least one entry and none twice"),
    ("evaluate --network cross --policy nix.pt", "checkpoint nix.pt does not exist"),
    (
        "evaluate --network cross --policy jointq",
        "no finished run of jointq on cross; train one: make train NET",
    ),
    ("evaluate --network cross --policy " + 32 * "0", "has no checkpoint.pt in sqlite:"),
    ("compare --network cross", "no finished run on cross; train one: make train NET=cross"),
    ("watch --network cross --policy random --seed -1", "seed must lie in 0 .. 2147483647; got -1"),
    ("watch --network cross --policy random --delay-ms -1", "delay_ms must not be negative; got -1"),
    ("ui --port 99999", "port 99999 cannot be used"),
    ("serve --http 99999", "port 99999 of 127.0.0.1 cannot be used"),
    ("serve --from nowhere --http 0", "folder nowhere cannot be read (FileNotFoundError:"),
    ("serve --network gird2x2 --http 0", "network gird2x2 not found; did you mean grid2x2?"),
    ("serve --traci 127.0.0.1", "traci must be host:port, with a port in 1 .. 65535; got 127.0.0.1"),
    ("serve --traci 8813 --from deploy/g", "from (FROM) is a folder for a gateway; with traci give network (NET)"),
    ("serve --traci 8813 --network cross --policy fixed_time", "policy fixed_time runs programs of SUMO"),
    ("serve --http 0 --watchdog.silent-s 0", "watchdog.silent_s must"),
    ("evaluate --network cross --policy random --out /dev/null/x", "out /dev/null/x cannot be made"),
    (
        "evaluate --network cross --policy random --out a,b",
        "out a,b has a comma, where SUMO ends a file name; give another folder",
    ),
]


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_a_mistake_is_one_line(home, capsys, line, said):
    assert home.main(line) == 2
    out, err = capsys.readouterr()
    assert said in one_line(err)
    assert out == ""


def test_as_a_process(home):
    code, out, err = home.run("train --network gird4x4")
    assert (code, out) == (2, "")
    assert one_line(err).startswith("error: network gird4x4 not found; did you mean grid4x4? (available: arterial4x4, ")


# configuration files


@pytest.fixture
def configs(tmp_path):
    return shutil.copytree(ROOT / "configs", tmp_path / "configs")


def test_a_float_without_a_point_in_yaml(configs):
    (configs / "algos" / "ippo.yaml").write_text("lr: 1e-3\nhidden: [8, 4]\n", encoding="utf-8")
    (config,) = parse(["--algos", "ippo"], configs).runs
    assert config.algo.lr == 0.001
    assert isinstance(config.algo.lr, float)
    assert config.algo.hidden == (8, 4)


def test_the_command_line_wins_over_files(configs):
    (configs / "train.yaml").write_text(
        "network: cross\nalgos: [ippo, mappo]\ntiming:\n  yellow_s: 4\ntiming_preset: field\n", encoding="utf-8"
    )
    config = parse(["--timing.yellow-s", "6"], configs)
    assert (*config.network, config.algos, config.timing.yellow_s, config.timing.all_red_s) == ("cross", ("ippo", "mappo"), 6, 2)
    assert parse(["--algos", "jointq"], configs).algos == ("jointq",)


def test_a_switch_needs_no_value(configs):
    assert not parse([], configs).plots
    assert with_switches([], ExperimentConfig) == []
    for words in (["--plots"], ["--plots", "--network", "cross"], ["--plots", "True"], ["--network", "cross", "--plots"]):
        assert parse(words, configs).plots
    assert not parse(["--plots", "False"], configs).plots
    assert parse(["--algo.popart", "--algos", "ippo"], configs).algo["ippo"].popart


def test_a_command_has_a_training_for_each_algorithm_and_seed():
    experiment = parse(["--algos", "ippo", "iql", "--seeds", "3", "1", "--algo.gamma", "0.9"])
    assert [(run.algorithm, run.seed) for run in experiment.runs] == [("ippo", 3), ("ippo", 1), ("iql", 3), ("iql", 1)]
    for run in experiment.runs:
        assert isinstance(run.algo, algos.find(run.algorithm).Config)
        assert run.algo.gamma == 0.9
        assert run.experiment is experiment


def test_an_observation_brings_settings_of_its_own(configs):
    (configs / "observations" / f"{SimConfig.observation}.yaml").write_text(
        "episodes: 8\nalgos:\n  ippo:\n    lr: 5e-3\n    gae_lambda: 0.1\n  iql: {lr: 7e-3}\n", encoding="utf-8"
    )
    (configs / "algos" / "ippo.yaml").write_text("gae_lambda: 0.7\n", encoding="utf-8")
    config = parse(["--algos", "ippo", "iql", "vdn"], configs)
    assert (config.episodes, [algo.lr for algo in config.algo.values()]) == (8, [5e-3, 7e-3, 1e-3])
    assert config.algo["ippo"].gae_lambda == 0.7
    assert parse(["--algos", "ippo", "--algo.lr", "2e-3"], configs).algo["ippo"].lr == 2e-3
    assert parse(["--algos", "ippo", "--sim.observation", "sumo-rl"], configs).algo["ippo"].lr == 1e-3


def test_a_variant_is_its_algorithm_with_other_settings(configs):
    (configs / "algos" / "jointq.yaml").write_text("lr: 1e-4\nothers_weight: 0.7\n", encoding="utf-8")
    plain, selfish = parse(["--algos", "jointq", "jointq-selfish"], configs).runs
    assert (plain.algo.lr, plain.algo.others_weight) == (1e-4, 0.7)
    assert selfish.algo == dataclasses.replace(plain.algo, others_weight=0.0)
    (run,) = parse(["--algos", "jointq-selfish", "--algo.others_weight", "0.2"], configs).runs
    assert run.algo.others_weight == 0.2


@pytest.mark.parametrize("name", variants())
def test_every_variant_differs(name):
    variant, plain = parse(["--algos", name, name.partition("-")[0]]).runs
    assert variant.algo != plain.algo


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train.yaml", "net: [", "train.yaml: not valid YAML"),
        ("train.yaml", "just words", "train.yaml: expected settings as `name: value`; got str"),
        ("train.yaml", "episods: 3", "Unrecognized options: --episods"),
        ("algos/ippo.yaml", "lr: fast", "--algo.lr: could not convert string to float: 'fast'"),
        ("algos/ippo.yaml", "\tlr: 1", "ippo.yaml: not valid YAML"),
        ("timing/field.yaml", "yellow_s: {", "field.yaml: not valid YAML"),
        ("timing/field.yaml", "yelow_s: 3", "Unrecognized options: --yelow-s"),
    ],
)
def test_a_mistake_in_a_file(configs, name, text, said):
    (configs / name).write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        parse(["--algos", "ippo", "--timing-preset", "field"], configs)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert name in str(error.value)


# networks


@pytest.fixture
def project(tmp_path):
    """A clone whose networks/ is its own: the package is the repository's, by a link."""
    (tmp_path / "tsc_marl").symlink_to(ROOT / "tsc_marl")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(ROOT / "networks" / "cross", tmp_path / "networks" / "mine")
    mine = tmp_path / "networks" / "mine"
    mine.joinpath("scenario.yaml").write_text((mine / "scenario.yaml").read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    return mine


def replaced(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text), encoding="utf-8")


def without_signals(net):
    replaced(net, r"(?s)<tlLogic.*</tlLogic>", "")
    replaced(net, r' tl="\w+" linkIndex="\d+"', "")
    replaced(net, 'type="traffic_light"', 'type="priority"')


FAULTS = [
    (lambda mine: (mine / "cross.net.xml").unlink(), "cross.net.xml does not exist"),
    (lambda mine: replaced(mine / "cross.rou.xml", "</routes>", ""), "cross.rou.xml: not well-formed XML"),
    (lambda mine: replaced(mine / "cross.net.xml", "</net>", ""), "cross.net.xml"),
    (lambda mine: replaced(mine / "scenario.yaml", "end_s: 600", "end_s: 0"), "begin_s 0 must be before end_s 0"),
    (lambda mine: replaced(mine / "scenario.yaml", "begin_s: 0\nend_s: 600", "begin_s: 9000\nend_s: 9600"), "no vehicle departs"),
    (lambda mine: without_signals(mine / "cross.net.xml"), "signal"),
    (lambda mine: replaced(mine / "cross.rou.xml", "<routes.*>", "<routes><trip id='x' depart='1' from='no' to='way'/>"), "mine"),
    (lambda mine: replaced(mine / "scenario.yaml", "net: ", "nett: "), "expected exactly the fields net, routes, begin_s"),
]


@pytest.mark.parametrize(("damage", "said"), FAULTS)
def test_a_network_that_cannot_be_used(home, project, tmp_path, capsys, damage, said):
    damage(project)
    folder = project.rename(project.with_name(f"mine_{tmp_path.name}"))  # a process knows one network of a name
    line = f"evaluate --network {folder} --policy random --eval-seeds 1 --workers 1 --out {home.folder / 'out'}"
    assert home.main(line) == 2
    out, err = capsys.readouterr()
    assert said in one_line(err)
    assert "inserted [veh]" not in out


def test_a_network_of_a_clone_that_cannot_be_used(home, project):
    (project / "cross.net.xml").unlink()
    line = f"evaluate --network mine --policy random --eval-seeds 1 --workers 1 --out {home.folder / 'out'}"
    code, out, err = home.run(line, cwd=project.parents[1])
    assert code == 2
    assert "cross.net.xml does not exist" in one_line(err)
    assert "inserted [veh]" not in out


# checkpoints


@pytest.fixture(scope="module")
def trained(new_home):
    home = new_home()
    assert (
        home.main("train --network cross --algos ippo --episodes 2 --eval-seeds 1 --baselines random --algo.epochs 1 --workers 1")
        == 0
    )
    return home


@pytest.fixture
def changed(trained, tmp_path):
    """Write the checkpoint with something changed, and return its path."""

    def write(change):
        content = trained.checkpoint()
        change(content)
        torch.save(content, tmp_path / "changed.pt")
        return tmp_path / "changed.pt"

    return write


def refused(home, capsys, path, net="cross"):
    capsys.readouterr()
    line = f"evaluate --network {net} --policy {path} --eval-seeds 1 --workers 1 --out {home.folder / 'out'}"
    assert home.main(line) == 2
    return one_line(capsys.readouterr().err)


def test_a_checkpoint_of_another_network(trained, changed, capsys):
    path = changed(lambda content: content["sim"].update(observation="lanes"))
    said = refused(trained, capsys, path, "grid2x2")
    assert "the policy of ippo was trained on cross, not grid2x2" in said


def test_a_checkpoint_cut_short(trained, tmp_path, capsys):
    whole = trained.checkpoints[0].read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        assert "cut.pt cannot be read" in refused(trained, capsys, tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.update(algorithm="ipppo"), "algorithm ipppo not found; did you mean ippo?"),
        (
            lambda content: content["config"].update(magic=1),
            "ippo has a setting magic that this version does not know",
        ),
        (lambda content: content["config"].update(lr=-1.0), "algo.lr must be positive and finite; got -1.0"),
        (lambda content: content["sim"].update(magic=1), "ippo has a setting magic that this version does not know"),
        (lambda content: content["sim"].update(detection_m=-1.0), "sim.detection_m must be positive and finite; got -1.0"),
        (lambda content: content.update(format=99), "is not of this program"),
        (lambda content: content.pop("training"), "is not of this program"),
    ],
)
def test_a_checkpoint_that_does_not_fit(trained, changed, capsys, change, said):
    assert said in refused(trained, capsys, changed(change))


def test_weights_that_do_not_fit(trained, changed, capsys):
    path = changed(lambda content: content["training"]["weights"].pop("actor.head.weight"))
    assert "the weights of this ippo do not fit cross (actor.head.weight" in refused(trained, capsys, path)
    path = changed(lambda content: content["training"]["weights"].update({"actor.head.weight": torch.zeros(1, 9, 64)}))
    assert "the weights of this ippo do not fit cross (" in refused(trained, capsys, path)


def test_resuming_with_the_checkpoint_of_another_training(trained, new_home, capsys):
    home = new_home()
    shutil.copytree(trained.folder / "runs", home.folder / "runs")
    (path,) = home.checkpoints
    for change, said in (({"algorithm": "mappo"}, "has algorithm mappo, this run ippo"), ({"seed": 3}, "has seed 3, this run 0")):
        torch.save(trained.checkpoint() | change, path)
        assert home.main(f"train --resume {home.training.name} --workers 1") == 2
        assert said in one_line(capsys.readouterr().err)


# evaluate


def attributes(path, tag):
    """The attributes of each element, by regular expressions: nothing of the program."""
    for element in re.findall(rf"<{tag} ([^>]*)>", path.read_text(encoding="utf-8")):
        yield dict(re.findall(r'(\w+)="([^"]*)"', element))


def test_checkpoint_labels_are_the_shortest_unique_path_ends(tmp_path):
    paths = [
        tmp_path / name for name in ("a/mappo-s0/checkpoint.pt", "a/mappo-s1/checkpoint.pt", "b/mappo-s0/checkpoint.pt", "x.pt")
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    one, two, three, four = map(str, paths)
    assert policy_labels([one, two, "random"]) == {one: "mappo-s0", two: "mappo-s1", "random": "random"}
    assert policy_labels([one, three]) == {one: "a_mappo-s0", three: "b_mappo-s0"}
    assert policy_labels([four, "mappo"]) == {four: "x", "mappo": "mappo"}
    assert policy_labels(["random"]) == {"random": "random"}


def test_evaluate_writes_the_metrics_of_each_episode(trained, tmp_path, capsys):
    capsys.readouterr()
    names = ["fixed_time", "ippo", str(trained.checkpoints[0])]
    line = ["evaluate", "--network", "cross", "--policy", *names, "--eval-seeds", "5", "6", "--workers", "2"]
    assert trained.main([*line, "--out", str(tmp_path / "new" / "out")]) == 0
    table = capsys.readouterr().out
    results = json.loads((tmp_path / "new" / "out" / "cross" / "metrics.json").read_text(encoding="utf-8"))["results"]
    file_name = "ippo-s0"
    assert list(results) == ["fixed_time", "ippo", file_name]
    assert results["ippo"] == results[file_name]  # the newest finished run is that file
    for name, rows in results.items():
        out = tmp_path / "new" / "out" / "cross" / name
        assert {path.name for path in out.iterdir()} >= {
            f"{kind}_{s}.xml" for kind in ("tripinfo", "summary", "tls") for s in (5, 6)
        }
        assert [row["seed"] for row in rows] == [5, 6]
        for row in rows:
            trips = list(attributes(out / f"tripinfo_{row['seed']}.xml", "tripinfo"))
            delay = [float(trip["timeLoss"]) + float(trip["departDelay"]) for trip in trips]
            arrived = [trip for trip in trips if float(trip["arrival"]) >= 0]
            inserted = [trip for trip in trips if float(trip["depart"]) >= 0]
            halting = [float(step["halting"]) for step in attributes(out / f"summary_{row['seed']}.xml", "step")]
            expected = {
                "delay": np.mean(delay), "travel_time": np.mean([float(trip["duration"]) for trip in arrived]),
                "waiting": np.mean([float(trip["waitingTime"]) for trip in inserted]), "queue": np.mean(halting),
                "scheduled": len(trips), "arrived": len(arrived), "never_inserted": len(trips) - len(inserted),
            }  # fmt: skip
            assert {key: row[key] for key in expected} == pytest.approx(expected)
            assert len(list(attributes(out / f"tls_{row['seed']}.xml", "tlsState"))) >= 600
        assert f"{np.mean([row['delay'] for row in rows]):.1f}" in table


# old names


def test_old_names_work_with_one_line_that_gives_the_new_ones(configs, home, capsys):
    assert home.main("nets --net cross") == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(name in lines[0] for name in ("nets ", "networks"))
    assert all(name in lines[1] for name in ("--net ", "--network"))
    old = "--net cross --timing field --signal.yellow-s 4 --algos jointq-doc1 --algo.lam 0.9 --demand.turns 0.1"
    new = "--network cross --timing-preset field --timing.yellow-s 4 --algos jointq-one_step_team --algo.gae-lambda 0.9"
    assert parse(old_options.replace(old.split()), configs) == parse([*new.split(), "--demand.reroute-share", "0.1"], configs)


def test_old_names_in_files(configs):
    (configs / "train.yaml").write_text("net: cross\nsignal:\n  yellow_s: 4\ntiming: field\n", encoding="utf-8")
    (configs / "algos" / "ippo.yaml").write_text("lam: 0.7\n", encoding="utf-8")
    config = parse(["--algos", "ippo"], configs)
    assert (*config.network, config.timing_preset, config.timing.yellow_s) == ("cross", "field", 3)
    assert config.algo["ippo"].gae_lambda == 0.7


def test_quiet_leaves_the_tables(home, capsys):
    assert home.main("-q nets --network cross") == 0
    quiet = capsys.readouterr().out
    assert "cross" in quiet
    assert home.main("networks -q --network cross") == 0
    assert capsys.readouterr().out in quiet


# help and Makefile


def test_the_verbs(capsys):
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)


@pytest.mark.parametrize("words", [["--help"], pytest.param(["train", "--help"], marks=pytest.mark.sumo)])
def test_a_reader_that_has_seen_enough_sees_no_traceback(words):
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([sys.executable, "-m", "tsc_marl", *words], stdout=writes, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("called", "name"), [("/usr/bin/tsc-marl", "tsc-marl"), ("/clone/tsc_marl/__main__.py", "python -m tsc_marl")]
)
def test_the_program_has_the_name_that_the_user_typed(called, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [called])
    assert main([]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {name} [-q | -v] VERB")
    assert main(["networks", "--bogus"]) == 2
    assert capsys.readouterr().err.endswith(f"; every option: {name} networks --help\n")
    with pytest.raises(SystemExit):
        main(["train", "--algos", "iql", "--help"])
    assert capsys.readouterr().out.startswith(f"usage: {name} train --algos iql ")
    assert command_line("train", ["--network", "my town"]) == f"{name} train --network 'my town'"


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_every_option(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    text = re.sub(r"[│╭╮╰╯─\s]+", " ", capsys.readouterr().out)
    assert f"usage: python -m tsc_marl {verb}" in text
    options = re.split(r" (?=--[a-z](?!iming\.\*))", text.split("show this help message and exit", 1)[1])[1:]
    assert options or verb == "doctor"
    for option in options:
        words = re.sub(r"\(default:.*", "", option).split()
        assert len([word for word in words if word.islower()]) >= 2, option
        assert "(default:" in option, option


LINES = {
    "train NET=cross ALGOS='ippo mappo' SEEDS='0 1' EPISODES=4 WORKERS=1 ARGS='--algo.lr 0.1'": (
        "train --network cross --algos ippo mappo --seeds 0 1 --episodes 4 --workers 1 --algo.lr 0.1"
    ),
    "train TIMING=field": "train --network grid4x4 --algos mappo jointq --seeds 0 --timing-preset field",
    "train RESUME=grid4x4-1 WORKERS=3": "train --resume grid4x4-1 --workers 3",
    "evaluate NET=cross POLICY='a b' EVAL_SEEDS='1 2' OUT=o WORKERS=1 ARGS=-x": (
        "evaluate --network cross --policy a b --eval-seeds 1 2 --out o --workers 1 -x"
    ),
    "compare NET=cross": "compare --network cross",
    "deploy NET=cross POLICY=a OUT=o TIMING=field": "deploy --network cross --policy a --out o --timing-preset field",
    "serve NET=cross POLICY=a TIMING=field ARGS='--traci 8813'": (
        "serve --network cross --policy a --timing-preset field --traci 8813"
    ),
    "serve FROM=deploy/g ARGS='--http 8000'": "serve --from deploy/g --http 8000",
    "explain NET=cross POLICY=mappo": "explain --network cross --policy mappo",
    "probe NET=cross POLICY='a b' EPISODES=16 OUT=o WORKERS=1 ARGS=-x": (
        "probe --network cross --policy a b --episodes 16 --out o --workers 1 -x"
    ),
    "branch NET=grid2x2 POLICY=pretrained OUT=o WORKERS=1 SEEDS='1 2'": (
        "branch --network grid2x2 --policy pretrained --seeds 1 2 --out o --workers 1"
    ),
    "watch NET=cross POLICY=mappo": "watch --network cross --policy mappo",
    "video NET=cross POLICY='a b' OUT=x.gif TIMING=field": (
        "video --network cross --policy a b --out x.gif --timing-preset field"
    ),
    "show NET=cross POLICY='a b' OUT=x.html ARGS='--seed 7'": "show --network cross --policy a b --out x.html --seed 7",
    "watch NET=cross CONTROLLER=mappo": "watch --network cross --policy mappo",
    "explain NET=cross RUN=mappo": "explain --network cross --policy mappo",
    "locks NET=cross POLICY=mappo EVAL_SEEDS='1 2' OUT=o": "locks --network cross --policy mappo --eval-seeds 1 2 --out o",
    "networks": "networks",
    "networks NET=town": "networks --network town",
    "city FROM=a.osm": "city --from a.osm",
    "city FROM=a.osm NET=mine OUT=o ARGS='--rate 900'": "city --from a.osm --network mine --out o --rate 900",
    "generate SEEDS='3 5' OUT=o WORKERS=1": "generate --seeds 3 5 --out o --workers 1",
    "generate SEEDS=3 COUNT=4": "generate --seeds 3 --count 4",
    "ui ARGS='--port 5001'": "ui --port 5001",
    "bench ARGS='--only x'": "bench --only x",
    "check-lights": "check-lights",
    "check-lights NET='cross grid2x2' POLICY=random SEEDS='1 2' SIGNAL_SECONDS=1e7 OUT=o TIMING=field WORKERS=1": (
        "check-lights --network cross grid2x2 --policy random --seeds 1 2 --signal-seconds 1e7 --out o --timing-preset field "
        "--workers 1"
    ),
}


def make(arguments):
    """Run make as from a terminal, also when make runs the tests."""
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "ARGS")
    env = {name: value for name, value in os.environ.items() if name not in inherited}
    done = subprocess.run(f"make {arguments}", shell=True, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("arguments", LINES)
def test_make_prints_its_command(arguments):
    assert make(f"-n {arguments}")[-1] == f".venv/bin/python -m tsc_marl {LINES[arguments]}"


@pytest.mark.parametrize(("goals", "code"), [("report", 2), ("install train", 0)])
def test_make_takes_a_cluster_for_the_verbs_that_use_one(goals, code):
    done = subprocess.run(["make", "-n", *goals.split(), "CLUSTER=auto"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    message = "CLUSTER is for train study evaluate watch; leave it out for report."
    assert (message in done.stderr) == bool(code)
    assert (" --cluster auto" in done.stdout) == (not code)


def test_make_lists_its_verbs():
    text = "\n".join(make("help"))
    verbs = re.findall(r"^make (\S+)", text, re.M)
    expected = (
        "help install train study evaluate results compare explain locks probe branch report export import release pretrained "
        "deploy serve watch video show ui networks city cut generate doctor bench bench-mpe check-lights chaos test test-sumo "
        "test-slow lint docs package clean"
    )
    assert verbs == expected.split()
    assert all(make(f"-n {verb}") for verb in verbs)
    assert all(f" {name}" in text for name in ("NET", "ALGOS", "SEEDS", "EPISODES", "WORKERS", "RESUME", "ARGS", "TSC_MARL_HOME"))
