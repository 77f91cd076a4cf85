"""Trainings as files: what another store makes of them is what the first one had."""

import gzip
import json
import os
import shutil
import sqlite3

import pytest
from helpers.cli import ROOT, one_line
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from tsc_marl.analysis import compare, summaries
from tsc_marl.errors import UserError
from tsc_marl.evaluation.tables import cells
from tsc_marl.report import archive_page
from tsc_marl.report.archive_file import pack, read_file

pytest_plugins = ["helpers.fixtures"]


@pytest.fixture(scope="module")
def trained(four_trainings):
    return four_trainings


@pytest.fixture(scope="module")
def files(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    assert trained.main(f"export --out {folder}") == 0
    return folder


def comparison(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return compare.load("cross")


def test_compare_is_the_same_after_import(trained, files, new_home, monkeypatch, capsys):
    (path,) = files.rglob("*.json.gz")
    run = min((trained.folder / "runs").iterdir())  # the first: other tests may have trained and deleted others
    assert path == files / "cross" / f"{run.name}.json.gz"
    other = new_home()
    assert other.main(f"import --folder {files}") == 0
    out = capsys.readouterr().out
    assert "reading 4 trainings" in out
    assert f"1 read from {files}, 0 were in the store already" in out
    assert (files / "README.md").read_text(encoding="utf-8").count("| `") == 3
    ours, theirs = comparison(trained, monkeypatch), comparison(other, monkeypatch)
    assert theirs.baseline_delays == ours.baseline_delays
    for name, summary in summaries.summarise(ours, "mappo").items():
        imported = summaries.summarise(theirs, "mappo")[name]
        assert cells(summaries.COLUMNS[1:], vars(imported)) == cells(summaries.COLUMNS[1:], vars(summary))
    for name, trainings in ours.groups.items():
        for mine, taken in zip(trainings, theirs.groups[name], strict=True):
            assert (taken.seed, taken.settings, taken.delay.tolist()) == (mine.seed, mine.settings, mine.delay.tolist())
            assert taken.metrics == pytest.approx(mine.metrics, rel=1e-5)
            assert {key: taken.curve[key].tolist() for key in taken.curve} == {
                key: pytest.approx(values.tolist(), rel=1e-5) for key, values in mine.curve.items()
            }
            assert mine.tags.items() - taken.tags.items() <= {
                entry for entry in mine.tags.items() if entry[0].startswith("mlflow.")
            }
    assert other.main(f"report --net cross --out {other.folder}/page.html") == 0


def test_newer_trainings_of_ones_own_are_named_beside_imported_ones(files, new_home, tmp_path, monkeypatch):
    home = new_home()
    (path,) = files.rglob("*.json.gz")
    content = read_file(path)
    content["trainings"] = [one for one in content["trainings"] if one["run"]["tags"]["seed"] == "0"]
    for part in (content, *content["trainings"]):
        part["run"]["tags"]["folder"] = "later"
        part["run"] |= {name: part["run"][name] + 600_000 for name in ("start_ms", "end_ms")}
    (tmp_path / "later.json.gz").write_bytes(pack(content))
    for folder in (files, tmp_path):
        assert home.main(f"import --folder {folder}") == 0
    assert summaries.origins(comparison(home, monkeypatch)) == []
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cross").experiment_id
    for run in client.search_runs([experiment], "tags.folder = 'later'"):
        client.delete_tag(run.info.run_id, "imported")  # as if they had been trained here
    text = summaries.caveats(comparison(home, monkeypatch))
    assert "trainings of your own stand beside imported ones: " in text
    assert "newer ones of your own replace imported ones: " in text
    assert "--where \"tags.imported = 'yes'\" takes the imported ones" in text
    for name in ("mappo", "ippo"):
        assert text.count(f"{name} seed 0") == 2
        assert f"{name} seed 1" not in text
    alone = compare.load("cross", compare.RunFilter("tags.imported = 'yes'"))
    assert summaries.origins(alone) == []
    assert [one.seed for one in alone.groups["mappo"]] == [0, 1]


def test_a_second_import_adds_nothing_and_a_study_counts_imported_trainings(trained, files, new_home, capsys):
    home = new_home()
    for message in ("1 read from", "0 read from"):
        assert home.main(f"import --folder {files}") == 0
        assert message in capsys.readouterr().out
    assert home.main("evaluate --net cross --controller ippo --eval-seeds 1") == 2
    assert "no run with a checkpoint, only imported ones, of ippo on cross" in capsys.readouterr().err
    again = files.parent / "again"
    again.mkdir()
    (again / "README.md").write_text("# Finished trainings\n\nold\n\n## city\n\n| a | b |\n", encoding="utf-8")
    assert home.main(f"export --net cross --algos ippo --out {again}") == 0
    (path,) = again.rglob("*.json.gz")
    content = json.loads(gzip.decompress(path.read_bytes()))
    found = [training["run"]["tags"]["algorithm"] for training in content["trainings"]]
    assert sorted(found) == ["ippo", "ippo", "mappo", "mappo"]  # what one command trained stays together
    page = (again / "README.md").read_text(encoding="utf-8")
    assert "\n\n## city\n\n| a | b |\n\n## cross\n\n" in page
    assert "`ippo`" in page
    assert "`mappo`" not in page
    assert "\nold\n" not in page


def test_a_name_is_no_markup_on_the_page():
    page = archive_page.text({"a|b\n## c": {"network": "a|b\n## c", "problem": "no <b> of [x](y)"}}, "export --algos 'a`b'")
    assert "\n## a&#124;b &#35;&#35; c\n\nNot compared: no &lt;b&gt; of &#91;x&#93;(y).\n" in page
    assert "Written by <code>export --algos 'a&#96;b'</code>;" in page
    again = archive_page.text({"a|b\n## c": {"network": "a|b\n## c", "problem": "other"}}, "export", page)
    assert again.count("\n## ") == 1


def test_import_into_another_store(files, new_home, empty_store, tmp_path, capsys):
    home, other = new_home(), tmp_path / "other.db"
    assert home.main(f"import --folder {files}") == 0
    shutil.copy(empty_store, other)
    capsys.readouterr()
    for message in ("1 read from", "0 read from"):
        assert home.main(f"import --folder {files}", MLFLOW_TRACKING_URI=f"sqlite:///{other}") == 0
        assert message in capsys.readouterr().out


def test_export_of_an_import_has_the_same_content(files, new_home, tmp_path):
    home = new_home()
    assert home.main(f"import --folder {files}") == 0
    assert home.main(f"export --out {tmp_path}") == 0
    (path,), (again,) = files.rglob("*.json.gz"), tmp_path.rglob("*.json.gz")
    content, other = (json.loads(gzip.decompress(file.read_bytes())) for file in (path, again))
    assert content.pop("sha256") != other.pop("sha256")
    for part in (other, *other["trainings"]):
        assert part["run"]["tags"].pop("imported") == "yes"
    assert other == content


def test_an_import_that_the_store_refuses_leaves_nothing_in_it(files, home, capsys, tmp_path):
    """The second training of the file meets a full disk."""
    (path,) = files.rglob("*.json.gz")
    shutil.copy(path, tmp_path)
    trigger = "BEFORE INSERT ON metrics WHEN (SELECT count(*) FROM runs) > 2 BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
    with sqlite3.connect(home.folder / "mlflow.db") as store:
        store.execute(f"CREATE TRIGGER full {trigger}")
    assert home.main(f"import --folder {tmp_path}") == 2
    assert "disk is full" in one_line(capsys.readouterr().err)
    assert home.statuses() == {}
    assert not (home.folder / "runs").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:100], "is no exported training (EOFError"),
        (lambda _: b"{}", "is no exported training (BadGzipFile"),
        (lambda data: data[:50] + bytes(40) + data[90:], "is no exported training (error: Error -3"),
        (lambda _: gzip.compress(b"{}"), "is no exported training (network: Field required)"),
        (lambda _: gzip.compress(b"[]"), "is no exported training (its content: Input should be"),
        (lambda data: changed(data, format=None), "is no exported training (format: Input should be"),
        (lambda data: changed(data, format=99), "is of another version of this program (format 99, not 1)"),
        (lambda data: changed(data, trainings=[{}]), "is no exported training (trainings.0.run: Field required)"),
        (lambda data: changed(data, network="../evil"), "is no exported training (network: String should match"),
        (lambda data: renamed(data, "../elsewhere"), "is no exported training (run.tags.folder: String should match"),
    ],
)
def test_import_refuses_a_file_that_is_no_export_and_keeps_nothing(files, home, capsys, tmp_path, damage, message):
    (path,) = files.rglob("*.json.gz")
    (tmp_path / "bad.json.gz").write_bytes(damage(path.read_bytes()))
    assert home.main(f"import --folder {tmp_path}") == 2
    assert message in capsys.readouterr().err
    assert not (home.folder / "runs").exists()


def changed(data, **entries):
    return packed(unpacked(data) | entries)


def renamed(data, name):
    return with_value(data, ("run", "tags", "folder"), name)


def unpacked(data):
    content = json.loads(gzip.decompress(data))
    content.pop("sha256")
    return content


def packed(content):
    return gzip.compress(json.dumps(content).encode())


def with_value(data, place, value):
    """The file with a value at a place, or without it."""
    content = unpacked(data)
    *parents, last = place
    part = content
    for key in parents:
        part = part[key]
    if value is REMOVED:
        del part[last]
    else:
        part[last] = value
    return packed(content)


REMOVED = object()
FIRST = ("trainings", 0)
TAGS, PARAMS, METRICS = ((*FIRST, "run", part) for part in ("tags", "params", "metrics"))
ROW = (*FIRST, "evaluation", "results", "mappo s0", 0)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((*PARAMS, "episodes"), "x", "trainings.0.run.params: episodes is 'x', no number of episodes"),
        ((*PARAMS, "episodes"), REMOVED, "trainings.0.run.params: episodes is missing"),
        ((*PARAMS, "episodes"), 4, "trainings.0.run.params.episodes: Input should be a valid string; got '4'"),
        ((*PARAMS, "episodes"), "6", "the curves of 4 of 6 episodes"),
        ((*PARAMS, "eval_seeds"), "(1, 3)", "the evaluation has the seeds (1, 2), the setting eval_seeds others"),
        ((*PARAMS, "algo.lr"), "x" * 7000, "params.algo.lr: String should have at most 6000 characters"),
        ((*PARAMS, "a#b"), "x", "params.a#b.[key]: MLflow does not take this name; got 'a#b'"),
        ((*TAGS, "seed"), "9" * 5000, "tags.seed: String should match pattern '^[0-9]{1,3}$'; got '999"),
        ((*TAGS, "seed"), "-1", "tags.seed: String should match pattern"),
        ((*TAGS, "seed"), "1", "with seed 1 is there twice"),
        ((*TAGS, "folder"), "other", "the tags folder and network of training 0 are not those of the file"),
        ((*TAGS, "network"), "other", "the tags folder and network of training 0 are not those of the file"),
        ((*TAGS, "algorithm"), "../a", "tags.algorithm: String should match pattern"),
        ((*TAGS, "kind"), "report", "tags.kind: Input should be 'training'"),
        ((*TAGS, "note"), "x" * 9000, "tags.note: String should have at most 8000 characters"),
        ((*TAGS, "note"), "a\0b", "tags.note: String should match pattern"),
        ((*TAGS, "mlflow.parentRunId"), "1", "the tag mlflow.parentRunId is MLflow's own"),
        ((*METRICS, "delay"), [[1, 2], [5.0]], "metrics.delay: 2 steps have 1 values"),
        ((*METRICS, "reward"), [[1, 2], [5.0]], "metrics.reward: 2 steps have 1 values"),
        ((*METRICS, "reward"), [[2, 1], [5.0, 5.0]], "metrics.reward: its steps do not increase"),
        ((*METRICS, "reward"), [[1, 1], [5.0, 5.0]], "metrics.reward: its steps do not increase"),
        ((*METRICS, "reward"), [[1], [float("nan")]], "metrics.reward.1.0: Input should be a finite number; got 'nan'"),
        ((*METRICS, "reward"), [[1], [float("inf")]], "metrics.reward.1.0: Input should be a finite number; got 'inf'"),
        ((*METRICS, "reward"), [[True], [1.0]], "metrics.reward.0.0: Input should be a valid integer; got 'True'"),
        ((*METRICS, "reward"), [[10**300], [1.0]], "metrics.reward.0.0: Input should be less than or equal to"),
        ((*METRICS, "reward"), [[], []], "metrics.reward.0: List should have at least 1 item"),
        ((*METRICS, "a\n"), [[1], [1.0]], "MLflow does not take this name"),
        ((*METRICS, "a/../b"), [[1], [1.0]], "MLflow does not take this name"),
        ((*METRICS, "x" * 251), [[1], [1.0]], "MLflow does not take this name"),
        ((*METRICS, "minutes"), REMOVED, "the curve of minutes is missing"),
        ((*METRICS, "delay"), [[1, 2], [5.0, 5.0]], "the curves of episode and delay have different steps"),
        ((*METRICS, "eval/delay"), REMOVED, "the metric eval/delay is missing"),
        ((*ROW, "delay"), REMOVED, "evaluation.results.mappo s0.0.delay: Field required"),
        ((*ROW, "delay"), float("nan"), "mappo s0.0.delay: Input should be a finite number"),
        ((*ROW, "seed"), True, "mappo s0.0.seed: Input should be a valid integer"),
        ((*ROW, "seed"), 2, "a seed was played twice"),
        ((*ROW, "seed"), 7, "the evaluation has the seeds (7, 2), the setting eval_seeds others"),
        ((*ROW, "stops"), float("inf"), "mappo s0.0.stops: Input should be a finite number, or nan"),
        ((*ROW, "stops"), "many", "mappo s0.0.stops: Input should be a valid number; got 'many'"),
        ((*ROW, "stops"), REMOVED, "mappo s0 has other metrics in some episodes"),
        (("evaluation", "results", "max_pressure", 0, "seed"), 9, "was played on other seeds than the first"),
        (("evaluation", "results"), {}, "evaluation.results: Dictionary should have at least 1 item"),
        (("evaluation", "demand"), 5, "evaluation.demand: Input should be an object; got '5'"),
        (("run", "tags", "folder"), "a/b", "run.tags.folder: String should match pattern"),
        (("run", "tags", "folder"), "a\0b", "run.tags.folder: String should match pattern"),
        (("run", "tags", "folder"), "a" * 300, "run.tags.folder: String should have at most 240 bytes"),
        (("run", "tags", "folder"), "é" * 150, "run.tags.folder: String should have at most 240 bytes"),
        (("run", "start_ms"), 10**20, "run.start_ms: Input should be less than or equal to"),
        (("run", "start_ms"), True, "run.start_ms: Input should be a valid integer; got 'True'"),
        (("run", "name"), "a\ud800", "is no exported training ("),
        (("network",), "a" * 300, "network: String should have at most 240 bytes"),
        (("network",), "a\x1b[31m", "network: String should match pattern"),
        (("format",), True, "format: Input should be a valid integer; got 'True'"),
    ],
)
def test_import_names_the_field_and_its_value(files, home, capsys, tmp_path, place, value, message):
    (path,) = files.rglob("*.json.gz")
    (tmp_path / "bad.json.gz").write_bytes(with_value(path.read_bytes(), place, value))
    shutil.copy(path, tmp_path / "a.json.gz")
    assert home.main(f"import --folder {tmp_path}") == 2
    line = one_line(capsys.readouterr().err)
    assert f"{tmp_path / 'bad.json.gz'} is no exported training (" in line
    assert message in line
    assert "leave it out, or export it again" in line
    assert not (home.folder / "runs").exists()
    assert home.statuses() == {}


def write_bomb(path):
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(101):
            file.write(b" " * 1_000_000)


def flip(path, data):
    content = json.loads(gzip.decompress(data))
    content["trainings"][0]["run"]["metrics"]["delay"][1][0] += 1
    path.write_bytes(packed(content))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, _: write_bomb(path), "it unpacks to more than 100 MB"),
        (lambda path, _: path.mkdir(), "it is no regular file"),
        (lambda path, _: path.symlink_to(path), "it is no regular file"),
        (lambda path, _: os.mkfifo(path), "it is no regular file"),
        (lambda path, _: path.write_bytes(gzip.compress(b'{"network": "\xe9"}')), "can't decode byte"),
        (lambda path, _: path.write_bytes(gzip.compress(b"[" * 100_000)), "it is nested too deeply"),
        (lambda path, _: path.write_bytes(gzip.compress(b'{"format": ' + b"1" * 5000 + b"}")), "Exceeds the limit"),
        (flip, "its content differs from its checksum sha256"),
    ],
)
def test_import_refuses_hostile_files_in_one_line(files, home, capsys, tmp_path, make, message):
    (path,) = files.rglob("*.json.gz")
    make(tmp_path / "bad.json.gz", path.read_bytes())
    assert home.main(f"import --folder {tmp_path}") == 2
    assert message in one_line(capsys.readouterr().err)
    assert not (home.folder / "runs").exists()


def test_two_files_of_one_run_are_refused(files, home, capsys, tmp_path):
    (path,) = files.rglob("*.json.gz")
    for name in ("a", "b"):
        shutil.copy(path, tmp_path / f"{name}.json.gz")
    assert home.main(f"import --folder {tmp_path}") == 2
    assert f"a.json.gz and {tmp_path}/b.json.gz both have the run" in one_line(capsys.readouterr().err)
    assert home.statuses() == {}


@pytest.mark.parametrize("folder", ["trainings", "trainings_lanes"])
def test_every_published_training_is_read(folder):
    paths = sorted((ROOT / "docs" / folder).glob("*/*.json.gz"))
    assert len(paths) >= 60
    for path in paths:
        read_file(path)


def test_files_of_earlier_versions_have_no_checksum_and_are_read():
    path, *_ = sorted((ROOT / "docs" / "trainings_lanes").glob("*/*.json.gz"))
    assert "sha256" not in json.loads(gzip.decompress(path.read_bytes()))
    read_file(path)


def test_mistakes(home, capsys, tmp_path):
    for line, message in (
        (f"import --folder {tmp_path}", f"no trainings (files *.json.gz) in {tmp_path}"),
        ("export", "no finished training on any network is chosen"),
        ("export --net crss", "network crss not found"),
        ("export --net cross --algos ippo", "no finished training of ippo on cross is chosen"),
    ):
        assert home.main(line) == 2
        assert message in capsys.readouterr().err


def places(part, before=()):
    """The places of all values in a file, containers too."""
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in entries:
        yield (*before, key)
        yield from places(value, (*before, key))


VALUES = st.one_of(
    st.just(REMOVED), st.none(), st.booleans(), st.integers(), st.integers(-(10**40), 10**40), st.floats(), st.text(max_size=300),
    st.lists(st.integers() | st.floats(), max_size=4),
    st.dictionaries(st.text(max_size=9), st.floats() | st.text(max_size=9), max_size=3),
)  # fmt: skip


@pytest.mark.parametrize("number", [25, pytest.param(2000, marks=pytest.mark.slow)])
def test_any_value_is_refused_in_one_line_or_breaks_nothing_later(files, new_home, tmp_path, number):
    (path,) = files.rglob("*.json.gz")
    data = path.read_bytes()
    chosen = st.sampled_from(sorted(places(unpacked(data)), key=str))

    @settings(max_examples=number, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(chosen, VALUES)
    def tried(place, value):
        (tmp_path / path.name).write_bytes(with_value(data, place, value))
        try:
            content = read_file(tmp_path / path.name)
        except UserError as error:
            content, refusal = None, str(error)
        if content is None:
            assert "\n" not in refusal
            return
        home = new_home()
        assert home.main(f"import --folder {tmp_path}") == 0
        network = content["network"]
        verbs = [["compare", "--network", network], ["export", "--out", str(home.folder / "again")]]
        assert {home.main(verb) for verb in verbs} <= {0, 2}

    tried()
