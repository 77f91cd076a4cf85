"""From runs to an answer: what is compared with what, and what is refused, on real trainings in a real store."""

import io
import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.fixtures import OF_THE_FOUR
from mlflow import MlflowClient
from rich.console import Console

from tsc_marl import console
from tsc_marl.analysis import compare, summaries
from tsc_marl.errors import UserError
from tsc_marl.evaluation import statistics, tables
from tsc_marl.tracking.colours import of_algorithms
from tsc_marl.tracking.run_folder import EVALUATION
from tsc_marl.tracking.stored_runs import StoredRuns

pytest_plugins = ["helpers.fixtures"]

QUICK = "train --net cross --episodes 2 --algo.epochs 1 --workers 1 --eval-seeds 1 --baselines"


@pytest.fixture(scope="module")
def home(four_trainings):
    return four_trainings


@pytest.fixture
def load(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return lambda where="": compare.load("cross", compare.RunFilter(where))


@pytest.fixture(scope="module")
def client(home):
    return MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")


def test_what_is_read_is_what_was_written(load, home):
    comparison = load()
    assert {name: sorted(t.seed for t in trainings) for name, trainings in comparison.groups.items()} == {
        "mappo": [0, 1],
        "ippo": [0, 1],
    }
    folder = min((home.folder / "runs").iterdir())  # the first: the tests may run in another order
    content = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["results"]
    for name, trainings in comparison.groups.items():
        for training in trainings:
            assert training.delay.tolist() == [row["delay"] for row in content[f"{name} s{training.seed}"]]
            assert training.curve["episode"].tolist() == [2, 4]
            assert len(training.curve["delay"]) == len(training.curve["minutes"]) == 2
    assert comparison.baseline_delays == {
        "max_pressure": pytest.approx(np.mean([row["delay"] for row in content["max_pressure"]]))
    }


def test_an_algorithm_has_its_colour_in_the_terminal():
    table = tables.terminal_table("", [tables.Column("name", "name")], [{"name": "jointq s0"}, {"name": "max_pressure"}])
    colour = [int(of_algorithms()["jointq"][i : i + 2], 16) for i in (1, 3, 5)]
    for force, expected in ((True, f"\x1b[38;2;{';'.join(map(str, colour))}mjointq s0"), (False, "│ jointq s0")):
        out = io.StringIO()
        Console(file=out, force_terminal=force, color_system="truecolor" if force else "auto", width=80).print(table)
        assert expected in out.getvalue()
        assert "│ max_pressure" in out.getvalue()


def cut_curves(record):
    """As after a store that was lost for good before the end."""
    metrics = {name: [column[:1] for column in points] for name, points in record["metrics"].items()}
    return {**record, "metrics": metrics, "tags": {key: value for key, value in record["tags"].items() if key != "imported"}}


def without(part, key):
    return lambda record: {**record, part: {name: value for name, value in record[part].items() if name != key}}


def unequal(record):
    steps, values = record["metrics"]["delay"]
    return {**record, "metrics": record["metrics"] | {"delay": [steps[:-1], values[:-1]]}}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_curves, "the curves of 2 of 4 episodes"),
        (unequal, "the curves of episode and delay have different steps"),
        (without("metrics", "minutes"), "the curve of minutes is missing"),
        (without("params", "episodes"), "run.params: episodes is missing"),
        (without("tags", "algorithm"), "run.tags.algorithm: Field required"),
        (without("tags", "git_commit"), "run.tags.git_commit: Field required"),
        (lambda record: {**record, "params": record["params"] | {"episodes": "x"}}, "episodes is 'x', no number of episodes"),
    ],
)
def test_a_damaged_training_is_named_and_left_out(home, load, client, capsys, tmp_path, damage, message):
    (whole, *_) = load().groups["ippo"]
    store = StoredRuns("cross")
    record = damage(store.record(client.get_run(whole.run_id)))
    run_id = store.restore(record, store.download(whole.run_id, EVALUATION), "", whole.tags["mlflow.parentRunId"])
    try:
        capsys.readouterr()
        assert home.main("compare --net cross") == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "left out" in line)
        assert line.startswith(f"run {run_id} (")
        assert message in line
        assert [training.run_id for training in load().groups["ippo"]].count(run_id) == 0
        assert home.main(f"export --net cross --out {tmp_path}") == 0
        assert [line for line in capsys.readouterr().out.splitlines() if "left out" in line] == [line] * 2
        assert home.main(["compare", "--net", "cross", "--where", f"attributes.run_id = '{run_id}'"]) == 2
        assert "no finished run on cross" in capsys.readouterr().err
    finally:
        client.delete_run(run_id)


@pytest.mark.parametrize("damage", [b"", b"null", b"{}", b'{"results": {"a": [{"seed": 1}]}}', None])
def test_a_training_with_a_damaged_evaluation_is_left_out(load, client, capsys, damage):
    (whole, *_) = load().groups["mappo"]
    folder = StoredRuns("cross").download(whole.run_id, EVALUATION).parent
    path = Path(client.get_run(whole.run_id).info.artifact_uri.removeprefix("file://")) / EVALUATION
    try:
        path.unlink() if damage is None else path.write_bytes(damage)
        capsys.readouterr()
        assert whole.run_id not in {training.run_id for training in load().trainings}
    finally:
        shutil.copy(folder / EVALUATION, path)


def test_only_classical_controllers_are_baselines(load):
    """`mappo` was measured beside `ippo`, and is not among the chosen."""
    load()
    comparison = compare.load("cross", compare.RunFilter(algos=("ippo",)))
    assert list(comparison.groups) == ["ippo"]
    assert list(comparison.baseline_delays) == ["max_pressure"]


def test_the_table_says_what_the_statistics_say(load):
    comparison = load()
    comparison = replace(comparison, baseline_delays={compare.THRESHOLD_CONTROLLER: 1e9})
    (row,) = [row for row in summaries.rows(comparison, "mappo") if row["algorithm"] == "ippo"]
    keys = [column.key for column in summaries.COLUMNS]
    text = dict(zip(keys, tables.cells(summaries.COLUMNS, row), strict=True))
    ippo, mappo = summaries.delays(comparison.groups["ippo"]), summaries.delays(comparison.groups["mappo"])
    assert (text["seeds"], text["delay"]) == ("2", f"{statistics.iqm(ippo.ravel()):.1f}")
    assert (text["mean"], text["sd_over_seeds"]) == (f"{ippo.mean():.1f}", f"{ippo.mean(1).std(ddof=1):.1f}")
    share = statistics.probability_of_improvement(ippo.mean(1).tolist(), mappo.mean(1).tolist())[0]
    assert text["p_better"] == f"{share:.2f}"
    assert text["episodes"] == "never"  # four episodes are fewer than the ten that the curve is averaged over
    with pytest.raises(UserError, match="no finished run of the reference qmix on cross; choose one of"):
        comparison.reference("qmix")


def test_the_verb(home, capsys):
    assert home.main("compare --net cross --reference ippo") == 0
    out = capsys.readouterr().out
    assert re.search(r"P\(better\).*\n.* than ippo ", out)
    assert "max_pressure" in out
    assert "no interval" not in out
    assert home.main(["compare", "--net", "cross", "--where", "tags.seed = '1'"]) == 0
    assert "no interval where there is one training only" in capsys.readouterr().out
    assert home.main(["compare", "--net", "cross", "--where", "tags.seed = '7'"]) == 2
    assert "no finished run on cross that match tags.seed = '7'" in capsys.readouterr().err
    assert home.main("compare --net cross --algos ippo") == 0
    assert "mappo" not in capsys.readouterr().out
    assert home.main("compare --net cross --algos ipo") == 2
    assert "algorithm ipo not found; did you mean ippo?" in capsys.readouterr().err
    assert home.main("compare --net cross --algos ippo qmix") == 2
    assert 'no finished run of qmix on cross; train one: make train NET=cross ALGOS="qmix"' in capsys.readouterr().err
    assert home.main(["compare", "--net", "cross", "--where", "seed is seven"]) == 2
    assert "where seed is seven is no filter of MLflow's" in capsys.readouterr().err


@pytest.mark.parametrize("width", [80, 110, 200])
def test_a_narrow_terminal_gets_whole_columns(load, monkeypatch, width):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    text = Terminal()
    monkeypatch.setattr(sys, "stdout", text)
    monkeypatch.setenv("COLUMNS", str(width))
    console.show_log()
    console.show(summaries.table(load(), "mappo"), summaries.MINOR)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue()).splitlines()  # without colours
    assert all(any(line.startswith(f"│ {name} ") and line.endswith("│") for line in lines) for name in ("ippo", "mappo"))
    assert "…" not in text.getvalue()
    assert (" ".join(summaries.MINOR[0].split()) in lines[-1]) == (width < 200)
    assert max(len(line) for line in lines if line.startswith("│")) <= width


@pytest.mark.sumo
def test_other_settings_of_an_algorithm_are_another_group_and_the_newest_counts(new_home, monkeypatch):
    home = new_home()
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for lam in ("0.5", "0.5", "0.9"):
        assert home.main(f"{QUICK} --algos ippo --algo.gae_lambda {lam}") == 0
    comparison = compare.load("cross")
    assert {name: len(trainings) for name, trainings in comparison.groups.items()} == {
        "ippo (gae_lambda 0.9)": 1,
        "ippo (gae_lambda 0.5)": 1,
    }
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    runs = client.search_runs(
        [client.get_experiment_by_name("cross").experiment_id], "params.`algo.gae_lambda` = '0.5' and tags.seed = '0'"
    )
    newest = max(runs, key=lambda run: run.info.start_time)
    assert comparison.groups["ippo (gae_lambda 0.5)"][0].run_id == newest.info.run_id
    assert home.main(f"{QUICK} --algos ippo --algo.gae_lambda 0.5 --seeds 1") == 0
    comparison = compare.load("cross")
    assert comparison.groups_of("ippo") == ["ippo (gae_lambda 0.5)", "ippo (gae_lambda 0.9)"]
    assert comparison.reference("ippo") == "ippo (gae_lambda 0.5)"
    assert comparison.reference("ippo (gae_lambda 0.9)") == "ippo (gae_lambda 0.9)"


def test_group_names_omit_settings_that_older_trainings_lack(load):
    """As after an update of this program."""
    (training,) = (t for t in load().groups["ippo"] if t.seed == 0)
    older = {key: value for key, value in training.settings.items() if key != "algo.rollout_length"}
    names = compare.group_names([replace(training, settings=older), training])
    assert names == ["ippo", f"ippo (rollout_length {training.settings['algo.rollout_length']})"]


def refused(load, client, run_id, field, values):
    """Check that a run stands in the way of the comparison, and can be had alone; take it out again."""
    try:
        with pytest.raises(UserError, match=rf"{run_id} \(ippo\) .*cannot be compared: {field} is {' and '.join(values)}"):
            load()
        kept = load(f"params.`{field}` = '{client.get_run(run_id).data.params[field]}'")
        assert [t.run_id for trainings in kept.groups.values() for t in trainings] == [run_id]
    finally:
        client.delete_run(run_id)
    assert len(load().groups) == 2


@pytest.mark.sumo
@pytest.mark.parametrize(
    ("option", "field", "values"),
    [
        ("--timing-preset field", "timing.all_red_s", ("2", "0")),
        ("--eval-seeds 4 5", "eval_seeds", (r"\(4, 5\)", r"\(1, 2\)")),
    ],
)
def test_what_cannot_be_compared_is_refused(home, load, client, option, field, values):
    assert home.main(f"{OF_THE_FOUR} --algos ippo --seeds 5 {option}") == 0
    experiment = client.get_experiment_by_name("cross").experiment_id
    (run,) = client.search_runs([experiment], "tags.seed = '5' and tags.kind = 'training'")
    refused(load, client, run.info.run_id, field, values)


@pytest.mark.parametrize(
    ("field", "value", "own"),
    [("sim.reward", "queue", "delay"), ("demand.scale", "0.5", "1.0"), ("timing.yellow_s", "3", "2")],
)
def test_a_training_with_another_setting_cannot_be_compared(load, client, field, value, own):
    """A later training like another, but for its seed and one setting."""
    (whole, *_) = load().groups["ippo"]
    store = StoredRuns("cross")
    record = store.record(client.get_run(whole.run_id))
    assert record["params"][field] == own
    params, tags = record["params"] | {field: value}, record["tags"] | {"seed": "5"}
    later = {**record, "params": params, "tags": tags, "start_ms": record["start_ms"] + 10**6}
    run_id = store.restore(later, store.download(whole.run_id, EVALUATION), "", whole.tags["mlflow.parentRunId"])
    refused(load, client, run_id, field, (value, own))


@pytest.mark.parametrize("field", ["timing.priority", "timing.max_crossing_red_s"])
def test_a_training_of_before_a_time_was_known_had_its_default(load, client, field):
    (whole, *_) = load().groups["ippo"]
    store = StoredRuns("cross")
    record = store.record(client.get_run(whole.run_id))
    params = {name: value for name, value in record["params"].items() if name != field}
    assert len(params) == len(record["params"]) - 1
    earlier = {**record, "params": params, "tags": record["tags"] | {"seed": "5"}, "start_ms": record["start_ms"] + 10**6}
    run_id = store.restore(earlier, store.download(whole.run_id, EVALUATION), "", whole.tags["mlflow.parentRunId"])
    try:
        assert run_id in [training.run_id for training in load().groups["ippo"]]
    finally:
        client.delete_run(run_id)


@pytest.mark.parametrize("part", ["network", "demand", "additional", "window", "sumo_options"])
def test_trainings_on_other_files_are_not_mixed(load, client, part):
    (training, *_) = load().groups["ippo"]
    key, own = f"scenario.{part}", training.tags[f"scenario.{part}"]
    client.set_tag(training.run_id, key, "other")
    try:
        with pytest.raises(UserError, match=rf"cannot be compared: {key} is .*other.*; choose with --where"):
            load()
        kept = load(f"tags.`{key}` = 'other'")
        assert [t.run_id for trainings in kept.groups.values() for t in trainings] == [training.run_id]
    finally:
        client.set_tag(training.run_id, key, own)
    assert len(load().groups) == 2


def test_trainings_of_earlier_versions_are_mixed_with_a_line(load, client, home, capsys):
    """They did not note their files; that lets nothing pass between the others."""
    trainings = load().trainings
    assert "earlier versions" not in summaries.caveats(load())
    files = {key: value for key, value in trainings[0].tags.items() if key.startswith("scenario.")}
    newest = max(trainings, key=lambda training: client.get_run(training.run_id).info.start_time)
    others = [training for training in trainings if training is not newest]
    for key in files:
        client.delete_tag(newest.run_id, key)
    try:
        capsys.readouterr()
        assert home.main("compare --net cross") == 0
        out = capsys.readouterr().out
        assert "1 of 4 trainings are of earlier versions, so nobody knows whether" in out
        assert f"network and demand: {newest.algorithm}" in out
        client.set_tag(others[0].run_id, "scenario.demand", "other")
        with pytest.raises(UserError, match=r"cannot be compared: scenario\.demand is"):
            load()
        for training in others:
            for key in files:
                client.delete_tag(training.run_id, key)
        assert "earlier versions" not in summaries.caveats(load())
    finally:
        for training in trainings:
            for key, value in files.items():
                client.set_tag(training.run_id, key, value)
