"""Trainings as files: what another store makes of them is what the first one had."""

import gzip
import json
import shutil

import pytest

from tsc_marl.analysis import compare, summaries
from tsc_marl.evaluation.tables import cells
from tsc_marl.report import archive_page

pytest_plugins = ["helpers.fixtures"]


@pytest.fixture(scope="module")
def trained(new_home):
    home = new_home()
    line = "train --net cross --episodes 4 --algo.epochs 1 --workers 1 --eval-seeds 1 2 --baselines max_pressure"
    assert home.main(f"{line} --algos mappo ippo --seeds 0 1") == 0
    return home


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
    (run,) = (trained.folder / "runs").iterdir()
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


def test_a_failed_import_leaves_nothing_in_the_store(files, home, capsys, tmp_path):
    """Its last training has more steps than values in one curve."""
    (path,) = files.rglob("*.json.gz")
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["trainings"][-1]["run"]["metrics"]["reward"][0].append(99)
    (tmp_path / "bad.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    assert home.main(f"import --folder {tmp_path}") == 2
    assert "cannot be taken into" in capsys.readouterr().err
    assert home.statuses() == {}
    assert not (home.folder / "runs").exists()


@pytest.mark.sumo
def test_a_study_does_not_repeat_imported_trainings(new_home, capsys, tmp_path):
    line = "study --net cross --algos ippo --seeds 0 --jobs 1 --episodes 2 --algo.epochs 1 --eval-seeds 1 --baselines"
    first, second = new_home(), new_home()
    assert first.main(line) == 0
    assert first.main(f"export --out {tmp_path}") == 0
    assert second.main(f"import --folder {tmp_path}") == 0
    capsys.readouterr()
    assert second.main(line) == 0
    assert "1 trainings, 1 of them finished already" in capsys.readouterr().out


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
    return gzip.compress(json.dumps(json.loads(gzip.decompress(data)) | entries).encode())


def renamed(data, name):
    content = json.loads(gzip.decompress(data))
    content["run"]["tags"]["folder"] = name
    return gzip.compress(json.dumps(content).encode())


def test_mistakes(home, capsys, tmp_path):
    for line, message in (
        (f"import --folder {tmp_path}", f"no trainings (files *.json.gz) in {tmp_path}"),
        ("export", "no finished training on any network is chosen"),
        ("export --net crss", "network crss not found"),
        ("export --net cross --algos ippo", "no finished training of ippo on cross is chosen"),
    ):
        assert home.main(line) == 2
        assert message in capsys.readouterr().err
