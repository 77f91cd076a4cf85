"""Batches of networks: a bad one has its line, the others are listed and measured, and the exit code is 2 at the end."""

import json
import shutil

import pytest
from helpers.cli import one_line

from tsc_marl.paths import NETWORKS

pytest_plugins = ["helpers.fixtures"]


@pytest.fixture
def broken(tmp_path):
    """Make networks that cannot be read, and one that only SUMO refuses; return their folders."""
    folders = []
    for kind, name, old, new in (
        ("unreadable", "cross.net.xml", 'offset="0"', 'offset="soon"'),
        ("unlit", "cross.net.xml", "tlLogic", "lights"),
        ("lost", "cross.rou.xml", 'to="A0bottom0"', 'to="nowhere"'),
    ):
        folder = tmp_path / f"{kind}-{tmp_path.name}"
        shutil.copytree(NETWORKS / "cross", folder)
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), encoding="utf-8")
        folders.append(str(folder))
    return folders


def test_the_others_are_listed(home, broken, capsys):
    unreadable, unlit, _ = broken
    assert home.main(["networks", "--network", unreadable, "cross", unlit]) == 2
    out, err = capsys.readouterr()
    assert "│ cross" in out
    said = one_line(err)
    assert f"2 of 3 networks cannot be listed: {unreadable}: " in said
    assert f"; {unlit}: " in said


def test_a_single_bad_network_has_its_reason_alone(home, broken, capsys):
    for verb in ("networks", "evaluate"):
        assert home.main([verb, "--network", broken[0]]) == 2
        assert one_line(capsys.readouterr().err).startswith(f"error: {broken[0]}/cross.net.xml: ")


def test_the_others_are_measured(home, broken, tmp_path, capsys):
    """`lost` is a network of which SUMO refuses the routes, when its episode begins."""
    unreadable, _, lost = broken
    line = ["evaluate", "--policy", "max_pressure", "--eval-seeds", "1", "--workers", "1", "--out", str(tmp_path / "out")]
    assert home.main([*line, "--network", unreadable, "cross"]) == 2
    out, err = capsys.readouterr()
    assert f"{unreadable} is left out: " in out
    assert f"1 of 2 networks cannot be measured: {unreadable}: " in one_line(err)
    path = tmp_path / "out" / "cross" / "metrics.json"
    assert len(json.loads(path.read_text(encoding="utf-8"))["results"]["max_pressure"]) == 1
    path.unlink()
    assert home.main([*line, "--network", lost, "cross"]) == 2
    assert "nothing could be measured on lost-" in one_line(capsys.readouterr().err)
    assert path.exists()


def test_a_policy_that_no_network_has_is_one_line_before_anything_is_played(home, tmp_path, capsys):
    out = tmp_path / "out"
    line = ["evaluate", "--policy", "max_pressure", "max_presure", "--eval-seeds", "1", "--workers", "1", "--out", str(out)]
    assert home.main([*line, "--network", "cross", "grid2x2"]) == 2
    shown = capsys.readouterr()
    assert "left out" not in shown.out + shown.err
    assert one_line(shown.err).count("controller max_presure not found") == 1
    assert not list(out.rglob("metrics.json"))


def test_a_study_names_everything_that_is_wrong_before_it_starts(home, broken, capsys):
    unreadable, unlit, _ = broken
    assert home.main(["study", "--network", unreadable, "cross", unlit, "--algos", "ippo", "mapo", "--seeds", "0", "1"]) == 2
    said = one_line(capsys.readouterr().err)
    for name in (f"{unreadable}/cross.net.xml: ", f"{unlit}/cross.net.xml: ", "algorithm mapo not found"):
        assert said.count(name) == 1
    assert not (home.folder / "runs").exists()
