"""The report page: its sentences for any outcome, what it shows and refuses, on real trainings in a real store."""

import dataclasses
import re
import shutil
import sqlite3

import numpy as np
import pytest
from helpers.cli import one_line
from mlflow import MlflowClient

from tsc_marl.analysis import compare
from tsc_marl.analysis.compare import Comparison, Training
from tsc_marl.report.network_data import REWARD, NetworkResults, SignalSeries, find
from tsc_marl.report.signal_plots import change_map, credit_panels
from tsc_marl.report.style import FIRST, series_styles
from tsc_marl.report.verdict import verdicts

pytest_plugins = ["helpers.fixtures"]

LINE = "train --network grid2x2 --episodes 12 --algo.epochs 1 --workers 1 --eval-seeds 1 2 --baselines max_pressure"


def group(name, ends, start=100.0):
    """Trainings of 100 episodes that come down on a straight line to each end."""
    episode = np.arange(2.0, 101, 2)
    return [
        Training(
            "run", name, seed, {"sim.reward": "delay"}, np.array([end, end]), 0.0,
            {"episode": episode, "steps": 120 * episode, "minutes": episode / 60, "delay": np.linspace(start, end, 50)}, {}, {},
        )
        for seed, end in enumerate(ends)
    ]  # fmt: skip


def said(levels=None, reference=None, **ends):
    levels = {"max_pressure": 28.0} if levels is None else levels
    comparison = Comparison("town", {name: group(name, values) for name, values in ends.items()}, levels)
    reference = comparison.reference(reference)
    findings = NetworkResults(
        comparison, reference, compare.summaries(comparison, reference), {name: SignalSeries(None, {}) for name in ends}
    )
    return [str(answer) for answer in verdicts(findings)]


FIVE = {"good": (21, 22, 23, 22.5, 21.5), "bad": (35, 36, 37, 36.5, 35.5), "between": (20.6, 22.2, 23.4, 22.6, 21.2)}


def test_better_and_faster():
    (text,) = said(mappo=FIVE["bad"], jointq=FIVE["good"])
    assert text.startswith("On town jointq learns faster and ends better than mappo. jointq ends at 22.0 s (95 % 2")
    assert re.search(r"of delay against 36\.0 s \(95 % 35\.\d \.\. 36\.\d\) for mappo; ", text)
    assert re.search(
        r"jointq gets down to max pressure's 28\.0 s after \d\d episodes \(5 of 5 trainings\), mappo never \(0 of 5\)", text
    )
    assert "is 1.00 (95 % 1.00 .. 1.00, p = 0.0079)." in text


def test_worse_and_slower():
    (text,) = said(mappo=FIVE["good"], jointq=FIVE["bad"])
    assert text.startswith("On town jointq learns more slowly and ends worse than mappo.")
    assert "jointq gets down to max pressure's 28.0 s never (0 of 5), mappo after" in text
    assert "better than one of mappo is 0.00 (95 % 0.00 .. 0.00, p = 0.0079)" in text


def test_alike():
    (text,) = said(mappo=FIVE["good"], jointq=FIVE["between"])
    assert text.startswith("On town these trainings cannot tell jointq from mappo.")
    assert "add seeds" not in text


def test_faster_only():
    episode = np.arange(2.0, 101, 2)
    slow, fast = group("mappo", FIVE["good"]), group("jointq", FIVE["between"])
    for training in fast:
        training.curve["delay"] = np.where(episode > 20, training.delay[0], 100.0)
    comparison = Comparison("town", {"mappo": slow, "jointq": fast}, {"max_pressure": 28.0})
    findings = NetworkResults(comparison, "mappo", compare.summaries(comparison, "mappo"), {})
    assert verdicts(findings)[0].verdict == (
        "On town jointq learns faster than mappo; which of the two ends better, these trainings cannot tell."
    )


def test_too_few_seeds_to_show_anything():
    (text,) = said(mappo=FIVE["bad"][:3], jointq=FIVE["good"][:3])
    assert text.startswith("On town there are too few trainings (3 and 3) to tell jointq from mappo.")
    assert "3 and 3 trainings cannot show more than p = 0.1, add seeds" in text


def test_one_seed_has_no_interval():
    (text,) = said(mappo=FIVE["bad"][:1], jointq=FIVE["good"][:1])
    assert text.startswith(
        "On town there are too few trainings (1 and 1) to tell jointq from mappo. jointq ends at 21.0 s of delay against 35.0"
    )
    assert text.endswith("jointq and mappo have one training seed each, and how much trainings vary is unknown: add seeds.")
    assert "95 %" not in text
    assert "nan" not in text
    (text,) = said(mappo=FIVE["bad"], jointq=FIVE["good"][:1])
    assert text.endswith("jointq has one training seed, and how much trainings vary is unknown: add seeds.")


def test_the_level_is_reached_by_some_by_none_or_unknown():
    (text,) = said(mappo=FIVE["bad"], jointq=(21, 36, 37, 38, 39))
    assert "jointq gets down to max pressure's 28.0 s in only 1 of 5 trainings" in text
    (text,) = said({"max_pressure": 9.0}, mappo=FIVE["bad"], jointq=FIVE["good"])
    assert "neither gets down to max pressure's 9.0 s in training; the delay averaged over all 100 training episodes is" in text
    assert "On town jointq has less delay over training and ends better than mappo." in text
    assert re.search(r"training episodes is \d+\.\d s against \d+\.\d s, p = 0\.0079; the probability", text)
    (text,) = said({}, mappo=FIVE["bad"], jointq=FIVE["good"])
    assert "max pressure was not measured with them; the delay averaged" in text


def test_where_training_had_another_demand_there_is_no_level():
    groups = {name: group(name, FIVE[ends]) for name, ends in (("mappo", "bad"), ("jointq", "good"))}
    for scale, level in (("1.0", 28.0), ("0.7", None)):
        for training in (training for trainings in groups.values() for training in trainings):
            training.settings.update({"demand.scale": scale, "eval_demand.scale": "1.0"})
        comparison = Comparison("town", groups, {"max_pressure": 28.0})
        assert comparison.threshold == level
        found = compare.summaries(comparison, "mappo")
        assert bool(found["jointq"].episodes) == (level is not None)
    (answer,) = verdicts(NetworkResults(comparison, "mappo", found, {}))
    assert "training had another demand than the evaluation" in answer.figures


def test_jams_that_decide_are_told():
    groups = {name: group(name, FIVE[ends]) for name, ends in (("mappo", "good"), ("jointq", "between"))}
    jammed = [dataclasses.replace(training, delay=np.array([20.0] * 9 + [400.0]), gridlock=0.1) for training in groups["jointq"]]
    comparison = Comparison("town", groups | {"jointq": jammed}, {})
    (answer,) = verdicts(NetworkResults(comparison, "mappo", compare.summaries(comparison, "mappo"), {}))
    assert "ends worse than mappo" in answer.verdict
    told = "20.0 s (95 % 20.0 .. 20.0, interquartile mean; mean 58.0 s, gridlock in 10% of the episodes)"
    assert f"jointq ends at {told} of delay" in answer.figures


def test_what_a_reader_should_know_of_the_figures():
    def caution(**commits):
        groups = {
            name: [
                dataclasses.replace(training, tags={"git_commit": commit})
                for training, commit in zip(group(name, FIVE["good"]), letters, strict=False)
            ]
            for name, letters in commits.items()
        }
        return compare.caveats(Comparison("town", groups, {}))

    few, mixed = "95 % intervals of few trainings are too narrow", "trainings of different git commits stand in one row: "
    assert caution(mappo="aaa", jointq="bbb").startswith(few)
    assert caution(mappo="aaa", jointq="bbb").endswith("as normal values do")
    assert caution(mappo="aaa", jointq="abb", qmix="b").startswith("no interval where there is one training only")
    assert few in caution(mappo="aaa", jointq="abb", qmix="b")
    assert caution(mappo="aaa", jointq="abb", qmix="b").endswith(mixed + "jointq")


def test_without_mappo_the_reference_does_not_depend_on_the_order():
    for names in (("jointq", "iql", "qmix"), ("qmix", "iql", "jointq")):
        assert Comparison("town", {name: group(name, (20,)) for name in names}, {}).reference() == "iql"
    assert Comparison("town", {name: group(name, (20,)) for name in ("iql", "mappo_ind")}, {}).reference() == "mappo_ind"


def test_who_is_compared_with_whom():
    three = said(mappo=FIVE["bad"], mappo_ind=FIVE["good"], jointq=FIVE["between"], iql=FIVE["good"])
    assert ["than mappo." in text or "from mappo_ind." in text for text in three] == [True, True]
    assert "for mappo_ind (same rewards, no credit)" in three[1]
    (text,) = said(reference="jointq", mappo=FIVE["bad"], jointq=FIVE["good"])
    assert text.startswith("On town mappo learns more slowly and ends worse than jointq.")
    (text,) = said(mappo=FIVE["bad"])
    assert text == (
        "On town only mappo is chosen, or was trained, so there is nothing to compare it with. "
        "It ends at 36.0 s (95 % 35.2 .. 36.8), max pressure at 28.0 s."
    )


def test_one_jam_does_not_make_the_other_maps_pale():
    names = ("mappo", "jointq", "ippo", "vdn")
    comparison = Comparison("cross", {name: group(name, FIVE["good"]) for name in names}, {})
    rewards = dict(zip(names, ({"A0": np.array([value])} for value in (-50.0, -40.0, -35.0, -9000.0)), strict=True))
    agents = {name: SignalSeries(np.array([2.0]), {REWARD: reward}) for name, reward in rewards.items()}
    figure = change_map(NetworkResults(comparison, "mappo", compare.summaries(comparison, "mappo"), agents))
    assert figure is not None
    assert figure.layout.coloraxis.cmax == 15


def test_a_colour_each_and_the_same_everywhere():
    one, other = series_styles(["mappo", "jointq"]), series_styles(["qmix", "iql", "jointq", "mappo", "jointq (kappa 0.5)"])
    assert all(one[name] == other[name] for name in FIRST)
    many = series_styles(map(str, range(20)))
    assert len(set(many.values())) == len(many)


@pytest.fixture(scope="module")
def home(new_home):
    home = new_home()
    assert home.main(f"{LINE} --algos mappo jointq --seeds 0 1") == 0
    assert home.main("report --net grid2x2") == 0
    return home


@pytest.fixture(scope="module")
def page(home):
    return (home.folder / "report" / "report.html").read_text()


@pytest.fixture
def found(home, monkeypatch):
    monkeypatch.setenv("TSC_MARL_HOME", str(home.folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return find(compare.load("grid2x2"), None)


def test_the_page_has_the_table_the_figures_and_how_it_was_made(page, found):
    body = page[page.index("<body>") :]
    table = compare.table(found.comparison, "mappo")
    for column in table.columns:
        for cell in column.cells:
            assert f"<td>{cell}</td>" in body
    assert set(re.findall(r'id="grid2x2-(\w+)"', body)) == {"curves", "final", "map", "credit"}
    for training in found.trainings:
        assert training.run_id in body
        assert f"{1_000_000 * (training.seed + 1)} .. {1_000_000 * (training.seed + 1) + 11}" in body
    assert f"python -m tsc_marl {LINE} --algos mappo jointq --seeds 0 1" in body
    assert found.first.tags["git_commit"] in body
    assert "eval_seeds (1, 2)" in body
    assert page.count("plotly.js v") == 1


def test_it_needs_nothing_from_elsewhere(page):
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]+(?:src|href)=["']?(?!["']?data:)""", page)
    assert "@import" not in page
    assert "url(http" not in page


def test_signals_may_be_called_by_numbers(found):
    """A browser must not count from one to the other."""
    (mappo, jointq) = (found.agents[name] for name in ("mappo", "jointq"))
    called = dict(
        zip(jointq.last("own_effect"), ["256201389", "32319828", "26110729", "cluster_1098574052_247379905"], strict=True)
    )

    def rename(agents):
        figures = {kind: {called[name]: series for name, series in of.items()} for kind, of in agents.figures.items()}
        return dataclasses.replace(agents, figures=figures)

    figure = credit_panels(dataclasses.replace(found, agents={"mappo": rename(mappo), "jointq": rename(jointq)}))
    assert {axis.type for axis in figure.select_yaxes()} == {"category"}
    assert {len(text) <= 16 for axis in figure.select_yaxes() for text in axis.ticktext} == {True}
    assert set(figure.layout.yaxis.tickvals) == set(called.values())


def test_local_rewards_are_those_of_the_end_of_training(found, home):
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    expected = [client.get_run(t.run_id).data.metrics["agent/A0/reward"] for t in found.groups["jointq"]]
    assert found.agents["jointq"].last("reward")["A0"] == pytest.approx(np.mean(expected))
    assert "effect_on_others" in found.agents["jointq"].figures
    assert "effect_on_others" not in found.agents["mappo"].figures


def test_the_figures_for_a_paper(home):
    files = {path.name for path in (home.folder / "report").iterdir()}
    names = {f"grid2x2_{name}.{kind}" for name in ("learning_curves", "final_delay") for kind in ("png", "pdf")}
    assert files == names | {"report.html"}


def test_it_is_a_run_with_the_answer_as_its_description(home, found):
    client = MlflowClient(f"sqlite:///{home.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("grid2x2").experiment_id], "tags.kind = 'report'")
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.note.content"].startswith(
        "**On grid2x2 there are too few trainings (2 and 2) to tell jointq from mappo.**"
    )
    assert "report.html" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_what_cannot_be_reported(home, capsys, tmp_path):
    assert home.main("report --net cross") == 2
    assert "no finished run on cross; train one: make train NET=cross" in one_line(capsys.readouterr().err)
    assert home.main("report --net grid2x2 --reference qmix") == 2
    assert "no finished run of the reference qmix on grid2x2; choose one of" in one_line(capsys.readouterr().err)
    assert home.main("report --net grid2x2 --out /dev/null/report.html") == 2
    assert "report /dev/null/report.html cannot be written" in one_line(capsys.readouterr().err)
    assert home.main("report --net grid2x2 --out report") == 2
    assert "out must name an .html file; got report" in one_line(capsys.readouterr().err)
    assert home.main("report --net grid2x2 grid2x2") == 2
    assert "net needs at least one entry and none twice" in one_line(capsys.readouterr().err)


def test_one_training_is_reported_without_intervals(home, capsys, tmp_path):
    out = tmp_path / "one.html"
    assert home.main(["report", "--net", "grid2x2", "--where", "tags.seed = '1'", "--out", str(out)]) == 0
    assert "too few trainings (1 and 1) to tell jointq from mappo" in capsys.readouterr().out
    assert "no interval where there is one training only" in out.read_text()


def test_a_run_whose_artifacts_are_gone(home, found, capsys, tmp_path):
    (folder,) = (home.folder / "mlartifacts").glob(f"*/{found.first.run_id}")
    shutil.move(folder, tmp_path / "kept")
    try:
        for verb in ("report", "compare"):
            assert home.main(f"{verb} --net grid2x2") == 2
            text = one_line(capsys.readouterr().err)
            assert f"run {found.first.run_id} has no evaluation.json" in text
            assert "delete the run in MLflow (make ui), or --where" in text
    finally:
        shutil.move(tmp_path / "kept", folder)


@pytest.mark.sumo
def test_what_was_downloaded_is_removed_at_the_end(home, tmp_path):
    code, out, err = home.run("compare --net grid2x2", TMPDIR=str(tmp_path))
    assert code == 0, err
    assert "mappo" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("revision", "said"),
    [("ffffffffffff", "a newer MLflow than 3"), pytest.param("451aebb31d03", "mlflow db upgrade sqlite", marks=pytest.mark.sumo)],
)
def test_a_store_of_another_mlflow(home, revision, said):
    """In a process of its own: MLflow looks at a store's version once."""
    path = home.folder / "mlflow.db"
    with sqlite3.connect(path) as store:
        (known,) = store.execute("SELECT version_num FROM alembic_version").fetchone()
        store.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    try:
        code, _, err = home.run("report --net grid2x2")
    finally:
        with sqlite3.connect(path) as store:
            store.execute("UPDATE alembic_version SET version_num = ?", (known,))
    assert code == 2
    assert f"tracking store sqlite:///{path} cannot be used: " in one_line(err)
    assert said in err
