"""What happens to people: full disks, removed folders, names too long, files that are no settings, own code that exits."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cli import ROOT, one_line

from tsc_marl.errors import UserError
from tsc_marl.paths import read_yaml, refused_by_system
from tsc_marl.sim.metrics._files import read_record

pytest_plugins = ["helpers.fixtures"]

TRAINING = "train --network cross --algos ippo --episodes 2 --eval-seeds 1 --baselines random --workers 1 --algo.epochs 1"
LONG = "x" * 5000
OWN = """
import os, sys
if os.environ.get("AT_IMPORT"): sys.exit(3)
def leaves(signal): raise SystemExit(4)
def recurs(signal): return recurs(signal)
def ends(signal): os._exit(0)
"""


@pytest.mark.parametrize(
    "line",
    [
        f"evaluate --network {LONG}", f"evaluate --network cross --policy {LONG}", f"evaluate --network cross --policy {LONG}.pt",
        f"evaluate --network cross --policy random --out {LONG}", f"train --resume {LONG}", f"import --folder {LONG}",
        f"networks --network {LONG}.sumocfg", f"explain --network cross --policy {LONG}", f"train --network {LONG}/x",
    ],
)  # fmt: skip
def test_a_name_too_long(home, capsys, line):
    assert home.main(line) == 2
    assert "File name too long" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("begin_s: 2024-13-45", "not valid YAML (month must be in 1..12)"),
        ("begin_s: 0b_", "not valid YAML"),
        ("begin_s: " + "9" * 5000, "not valid YAML"),
        ("begin_s: 0x" + "f" * 5000, "more than 18 digits"),
        ("[" * 20_000, "nested too deep"),
        ("a: b\0", "not valid YAML"),
        (b"a: \xff\xfe", "not valid YAML"),
        ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
            f"{name}: &{name} [{', '.join(10 * [f'*{before}'])}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ), "more than 10000 entries"),
        ("a: &a [*a]", "more than 10000 entries"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_settings(home, tmp_path, capsys, text, said):
    path = tmp_path / "scenario.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as error:
        read_yaml(path)
    assert said in str(error.value)
    assert home.main(["networks", "--network", str(path)]) == 2
    assert said in one_line(capsys.readouterr().err)


@pytest.mark.parametrize("routes", ["[[a, b]]", "[{a: b}]", "[2]"])
def test_a_route_file_that_is_no_name(home, tmp_path, capsys, routes):
    path = tmp_path / "scenario.yaml"
    text = (ROOT / "networks" / "cross" / "scenario.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace('["cross.rou.xml"]', routes).replace("cross.net", f"{ROOT}/networks/cross/cross.net"), "utf-8")
    assert routes in path.read_text(encoding="utf-8")
    assert home.main(["networks", "--network", str(path)]) == 2
    assert "must be lists of file names" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("reward", "env", "said"),
    [
        (":", {}, "reward :: import of an empty name failed"),
        ("own:", {}, "module own has no empty name"),
        ("own:leaves", {"AT_IMPORT": "1"}, "reward own:leaves: import of own failed (SystemExit: 3)"),
        pytest.param("own:leaves", {}, "reward own:leaves failed with SystemExit: 4", marks=pytest.mark.sumo),
        pytest.param("own:recurs", {}, "reward own:recurs failed with RecursionError", marks=pytest.mark.slow),
        pytest.param("own:ends", {}, "worker processes died 3 times in a row on episode 0", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_own_code_that_exits(home, tmp_path, monkeypatch, capsys, reward, env, said):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own", raising=False)  # of a test before
    assert home.main(f"{TRAINING} --sim.reward {reward}", **env) == 2
    assert said in one_line(capsys.readouterr().err)


def test_an_error_of_the_system_names_file_and_advice(tmp_path):
    missing = refused_by_system(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(tmp_path / "x")))
    assert str(missing) == f"{tmp_path}/x: No such file or directory; it does not exist, or was removed meanwhile"
    full = str(refused_by_system(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "a" / "b"))))
    assert full.startswith(f"{tmp_path} (")
    assert "MB free): No space left on device; free some space" in full


def test_output_of_sumo_that_is_cut_short_names_the_disk(tmp_path):
    (tmp_path / "tripinfo_1.xml").write_text("<tripinfos><tripinfo id=", encoding="utf-8")
    with pytest.raises(OSError, match="cut short") as error:
        read_record(tmp_path, 1, 1)
    assert str(refused_by_system(error.value)).startswith(f"{tmp_path} (")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.sumo
def test_a_full_folder_of_temporary_files(home, small_disk):
    code, _, err = home.run(TRAINING, TMPDIR=str(small_disk))
    assert code == 2
    assert f"error: {small_disk}/" in one_line(err)
    assert "MB free)" in err
    assert "go on with: make train RESUME=" in err
    assert home.main(["train", "--resume", home.training.name]) == 0


@pytest.mark.sumo
def test_a_disk_that_is_full_in_the_evaluation(home, small_disk):
    code, out, err = home.run(f"evaluate --network cross --policy random --eval-seeds 1 --out {small_disk}/out")
    assert code in (1, 2)
    assert f"{small_disk}/out" in out + err
    assert "Traceback" not in out + err


def test_an_error_that_nobody_can_write_down_keeps_its_exit_code():
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        line = [sys.executable, "-m", "tsc_marl", "networks", "--network", "nowhere"]
        assert subprocess.run(line, cwd=ROOT, stdout=full, stderr=full, check=False).returncode == 2
