"""Algorithms and controllers by name and by import path."""

import pytest

from tsc_marl import algos, controllers
from tsc_marl.errors import UserError

SOURCE = """
from tsc_marl.algos.ippo import Ippo
from tsc_marl.controllers import Controller

class Mine(Controller): ...
class Other(Ippo): ...
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_plugins.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("import no_such_module")
    monkeypatch.syspath_prepend(tmp_path)


def test_every_name_has_its_class():
    assert len({algos.find(name) for name in algos.available()}) == len(algos.available())
    assert len({controllers.find(name) for name in controllers.available()}) == len(controllers.available())


def test_import_path(own):
    assert controllers.find("own_plugins:Mine").__name__ == "Mine"
    assert algos.find("own_plugins:Other").__name__ == "Other"


@pytest.mark.parametrize(
    "name", ["max_presure", "own_plugins:Other", "own_plugins:Nothing", "own_broken:Mine", "nowhere:Mine", ":Mine"]
)
def test_wrong_names_are_one_line(name, own):
    with pytest.raises(UserError) as error:
        controllers.find(name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
