"""Names that come from files, and folders with any name: nothing is lost, and people read the real name."""

import contextlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.cli import ROOT, Home
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name, _validate_param_name
from PIL import Image

from tsc_marl.analysis import compare
from tsc_marl.console import make_line
from tsc_marl.errors import UserError
from tsc_marl.paths import LONGEST_NAME, file_name
from tsc_marl.report import network_data
from tsc_marl.tracking import curves
from tsc_marl.tracking.colours import of_algorithms
from tsc_marl.tracking.metric_names import LONGEST, metric_names
from tsc_marl.tracking.store import Tracker
from tsc_marl.tracking.stored_runs import StoredRuns
from tsc_marl.viz import learning_curve

pytest_plugins = "helpers.fixtures"

SIGNALS = (
    "cluster_901_902_#2more", "Rue/Été_(A+B)@1", "cluster_" + "_".join(str(10**10 + i) for i in range(22)), "123", "a'b\"c",
    "a b", "東京 駅", "e\u0301", "a//b", "..", "/", "<b>&", "a;b?c%20d", "$x$",
)  # fmt: skip
HOMES = ("a b", "a#b", "a%b", "a%20b", "a%3Fb", "a?b", "a;b", "a@b", "Müller-Straße", "it's", 'a"b', "a&b=c", "a:b", "100%")
QUICK = "--algos jointq --episodes 2 --eval-seeds 1 --baselines random --workers 1 --algo.epochs 1"

texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=400)
similar = st.text("a#-23/.", min_size=1, max_size=6)


def signal_metrics(signals):
    return [f"agent/{signal}/{metric}" for signal in signals for metric in ("reward", "effect_on_others")]


@given(st.sets(texts | similar, max_size=8))
def test_every_name_becomes_a_legal_one_and_stays_different(signals):
    for names in (signals, signal_metrics(signals)):
        legal = metric_names(names)
        assert set(legal) == set(names)
        assert len(set(legal.values())) == len(legal)
        for name in legal.values():
            _validate_metric_name(name)
            _validate_param_name(name)
            assert len(name) <= LONGEST


@given(st.text("abcXYZ019_.- :é", min_size=1, max_size=100).filter(lambda name: name.strip(".")))
def test_a_legal_name_stays_as_it_is(signal):
    (key,) = {f"agent/{signal}/reward"}
    assert metric_names([key]) == {key: key}


@given(st.sets(texts, max_size=8))
def test_file_names_are_short_and_of_plain_characters(names):
    for name in names:
        assert re.fullmatch(rf"[\w.-]{{1,{LONGEST_NAME}}}", file_name(name), re.ASCII)
    assert len({file_name(name) for name in names}) == len(names)


@pytest.fixture
def here(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return home


def test_a_table_keeps_the_names_of_all_signals(tmp_path):
    names = [*signal_metrics(SIGNALS), "delay", "traffic/queue"]
    steps = {"episode": [2.0, 4.0], "steps": [240.0, 480.0]}
    points = {name: np.array([[240.0, i], [480.0, i + 0.5]]) for i, name in enumerate(names)}
    points |= {name: np.stack([steps["steps"], values], 1) for name, values in steps.items()}
    of_updates, of_signals = (curves.read(path, curves.checksum(path)) for path in curves.write(points, tmp_path))
    found = curves.over_decisions(of_updates | of_signals)
    assert {name: values.tolist() for name, values in found.items()} == {name: values.tolist() for name, values in points.items()}


def test_a_damaged_table_is_refused(tmp_path):
    (path,) = curves.write({name: np.array([[120.0, 2.0], [240.0, 4.0]]) for name in ("episode", "steps", "delay")}, tmp_path)
    whole, expected = path.read_bytes(), curves.checksum(path)
    path.write_bytes(whole.replace(b"4", b"5"))
    with pytest.raises(UserError, match=r"curves.csv differs from its checksum"):
        curves.read(path, expected)


@pytest.mark.parametrize("name", HOMES)
def test_a_home_of_any_name_keeps_its_store_and_its_files(tmp_path, empty_store, monkeypatch, name):
    home = Home(tmp_path / name, empty_store)
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("content", encoding="utf-8")
    for network in ("town", "Köln #1 100%?"):
        tracker = Tracker(network)
        run = tracker.start("a run", {"kind": "training", "algorithm": "ippo"}, {})
        tracker.log(run, {"delay": 1.0}, 1)
        tracker.artifact(run, tmp_path / "file.txt")
        tracker.end(run, "FINISHED")
        assert not tracker.lost
        (found,) = StoredRuns(network).finished()
        assert StoredRuns(network).download(found.info.run_id, "file.txt").read_text(encoding="utf-8") == "content"
    assert {path.name for path in tmp_path.iterdir()} == {name, "file.txt"}
    assert {path.name for path in home.folder.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}


def typed(line, folder):
    """Return what a shell prints for a line of make."""
    around = ("MAKE", "MFLAGS", "ARGS")  # of a make that runs the tests
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(around)}
    return subprocess.run(line, shell=True, cwd=folder, env=quiet, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "words", [["cross"], ["my town"], ["it's"], ["$HOME"], ["a#b"], ["jointq", "max_pressure"], ["a b", "c"]]
)
def test_a_printed_line_of_make_hands_on_every_word(tmp_path, words):
    (tmp_path / "Makefile").write_text("show:\n\t@printf '%s|' $(NET)\n", encoding="utf-8")
    assert typed(make_line("show", NET=words), tmp_path) == "".join(f"{word}|" for word in words)


@pytest.mark.filterwarnings("error")
def test_names_in_pictures_are_no_formulas(tmp_path):
    history = [{"episode": 1.0, "minutes": 1.0, "delay": 10.0}, {"episode": 2.0, "minutes": 2.0, "delay": 20.0}]
    learning_curve.draw(tmp_path / "curve.png", {"$_{x": history}, {"$\\frac$": 12.0}, "$x_$")
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_an_algorithm_has_its_colour_in_every_picture(tmp_path):
    history = [{"episode": 1.0, "minutes": 1.0, "delay": 10.0}, {"episode": 2.0, "minutes": 2.0, "delay": 10.0}]
    learning_curve.draw(tmp_path / "curve.png", {"mappo s1": history}, {}, "")
    pixels = np.asarray(Image.open(tmp_path / "curve.png").convert("RGB")).reshape(-1, 3)
    own, first = (np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) for colour in (of_algorithms()["mappo"], "#1F77B4"))
    assert (pixels == own).all(axis=1).any()
    assert not (pixels == first).all(axis=1).any()


# a whole training, on the network cross whose signal has another name


def network_with(signal, folder):
    """Copy the network cross, with a signal of another name."""
    from xml.sax.saxutils import escape

    shutil.copytree(ROOT / "networks" / "cross", folder)
    path = folder / "cross.net.xml"
    text = path.read_text(encoding="utf-8")
    own = escape(signal, {'"': "&quot;"})
    path.write_text(re.sub(r'(<tlLogic id|tl)="A0"', lambda match: f'{match[1]}="{own}"', text), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "signal", [pytest.param("1 2#'", marks=pytest.mark.sumo), *(pytest.param(s, marks=pytest.mark.slow) for s in SIGNALS[:3])]
)
def test_every_printed_next_command_works(tmp_path, empty_store, capsys, signal):
    home = Home(tmp_path / "my #1 (ü) runs", empty_store)
    folder = network_with(signal, tmp_path / f"Straße {len(signal)}% 'A'")  # a process knows one network of a name
    assert home.main(["train", "--network", str(folder), *QUICK.split()]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "was lost" not in out
    lines = [line.strip() for line in out.partition("next:\n")[2].splitlines()]
    assert [line.split()[1] for line in lines] == ["ui", "watch", "evaluate", "compare", "report", "explain"]
    with contextlib.chdir(ROOT):
        for line in lines[2:]:
            short = {"evaluate": f" OUT='{tmp_path}/results' EVAL_SEEDS=1", "explain": f" OUT='{tmp_path}/results'"}
            assert home.main(words_of_the_program(line + short.get(line.split()[1], ""))) == 0, line
    (decisions,) = (tmp_path / "results").glob("decisions_*.csv")
    assert signal in decisions.read_text(encoding="utf-8").replace('""', '"')
    assert signal in {name for name in signals_of_the_report(home, folder)}


def words_of_the_program(line):
    """Return what the program gets from the shell when somebody types a line of make."""
    shown = typed(line.replace("make ", """make -s -o .venv/installed PY="printf '%s\\0'" """, 1), ROOT)
    option, module, *words, end = shown.split("\0")
    assert (option, module, end) == ("-m", "tsc_marl", "")
    return words


def signals_of_the_report(home, folder):
    """The signals whose metrics the report reads."""
    from tsc_marl.sim import scenario

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TSC_MARL_HOME", str(home.folder))
        results = network_data.read(compare.load(scenario.load(str(folder)).name), None)
    return results.signals["jointq"].final("reward")


@pytest.mark.sumo
def test_exported_trainings_of_an_odd_network_are_read_elsewhere(tmp_path, empty_store):
    home, other = Home(tmp_path / "a", empty_store), Home(tmp_path / "b%20 ?", empty_store)
    folder = network_with("cluster_1_#2more", tmp_path / "Rue de l'Été & #2")
    assert home.main(["train", "--network", str(folder), *QUICK.split()]) == 0
    assert home.main(["export", "--network", str(folder), "--out", str(tmp_path / "out #1")]) == 0
    assert other.main(["import", "--folder", str(tmp_path / "out #1")]) == 0
    assert other.main(["compare", "--network", str(folder)]) == 0
    page = Path(tmp_path / "page" / "report.html")
    assert other.main(["report", "--network", str(folder), "--out", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "cluster_1_#2more" in text
    assert "Rue de l'Été & #2" not in text.replace("&amp;", "&amp ;")
    assert [run.data.tags["network"] for run in MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}").search_runs(["1"])]
