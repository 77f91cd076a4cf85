"""The wheel: complete, installable beside its dependencies, and usable without write access to its folder."""

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from helpers.cli import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tsc_marl
from tsc_marl.paths import NETWORKS

pytestmark = pytest.mark.package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that sees the present packages but not the clone; the package's folder is read-only."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--quiet", str(wheel)], check=True)
    (packages / "present.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    for path in (packages / "tsc_marl").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    def _run(*command):
        env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TSC_MARL_HOME")}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)

    return lambda name, *words: _run(str(installed / "bin" / name), *words)


@pytest.mark.parametrize("extra", ["dev", "docs", "deploy", "cluster"])
def test_lock_file_has_what_the_package_needs(extra):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if "==" in line)}
    for requirement in map(Requirement, project["dependencies"] + project["optional-dependencies"][extra]):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement} is not in requirements.lock: install '.[dev,docs]', then pip freeze"
        assert requirement.specifier.contains(version), f"{requirement}, requirements.lock has {version}"


def test_wheel_has_networks_settings_and_types_but_no_trainings(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    networks = {f"tsc_marl/networks/{path.relative_to(NETWORKS).as_posix()}" for path in NETWORKS.rglob("*") if path.is_file()}
    assert names >= networks | {
        "tsc_marl/py.typed",
        "tsc_marl/configs/train.yaml",
        "tsc_marl/report/page.html",
        "tsc_marl/pretrained/policy.safetensors",
    }
    assert not any("trainings" in name or name.startswith(("tests", "docs")) for name in names)
    assert tsc_marl.__version__ in wheel.name


def test_console_script_lists_the_networks_from_an_empty_folder(run, tmp_path):
    result = run("tsc-marl", "networks")
    assert result.returncode == 0, result.stderr
    assert all(path.parent.name in result.stdout for path in NETWORKS.glob("*/scenario.yaml"))
    assert not list(tmp_path.iterdir())


def test_python_takes_the_installed_package(run, installed):
    program = "import tsc_marl; print(tsc_marl.__file__, tsc_marl.__version__, len(tsc_marl.list_networks()))"
    file, version, number = run("python", "-c", program).stdout.split()
    assert Path(file).is_relative_to(installed)
    assert (version, number) == (tsc_marl.__version__, "11")


@pytest.mark.sumo
def test_evaluation_of_an_installed_package(run, installed, tmp_path):
    package = next(installed.rglob("site-packages/tsc_marl"))
    before = {path for path in package.rglob("*") if "__pycache__" not in path.parts}
    result = run("tsc-marl", "evaluate", "--network", "cross", "--policy", "max_pressure", "--eval-seeds", "1")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "results" / "cross" / "metrics.json").exists()
    assert {path for path in package.rglob("*") if "__pycache__" not in path.parts} == before


def test_import_without_published_trainings_is_one_line(run):
    result = run("tsc-marl", "import")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "folder" in result.stderr
