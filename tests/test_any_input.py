"""Whatever is typed, and whatever the files hold: exit code 0, 2, 130 or 141, and exactly one `error:` line for 2.

No command line simulates: each names a network that does not exist, or ends when it has read the file.
"""

import itertools
import pickle

import pytest
import torch
import yaml
from helpers.cli import ROOT, one_line
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tsc_marl.cli.main import VERBS

pytest_plugins = ["helpers.fixtures"]

OPTIONS = [
    "network", "net", "algos", "seeds", "jobs", "policy", "run", "controller", "eval-seeds", "eval_seeds", "baselines",
    "disturbances", "stress", "metrics", "out", "timing-preset", "timing.yellow-s", "timing.min-green-s", "workers", "episodes",
    "episodes-per-update", "resume", "reference", "where", "truth-lam", "folder", "seed", "delay-ms", "quit-on-end", "from-s",
    "to-s", "demand.scale", "demand.turns", "eval-demand.vary", "sim.reward", "sim.observation", "sim.detection-m", "algo.lr",
    "algo.gamma", "algo.hidden", "algo.sharing", "algo.epochs", "checkpoint-every", "help", "", "h", "algo.", ".x", "only",
]  # fmt: skip
VALUES = [
    "", " ", "-1", "0", "1", "2", "nan", "inf", "-inf", "1e999", "1e-400", str(10**30), "9" * 5000, "1.5", "True", "None", "null",
    "'", '"', "`", "$(ls)", "*", "?", "a b", "a,b", "a/b", "../x", "/", ".", "..", "~", "~x", "/dev/null", "/dev/full",
    "/etc/passwd", ":", "::", "a:", ":b", "os:getcwd", "json:loads", "x" * 5000, "é", "日本", "\U0001f6a6", "\u202e",
    "\n", "a\nb", "\t", "\x1b[31m", "{}", "[]", "%s", "{0}", "cross", "gird4x4", "ippo", "jointq-", "-selfish", "mappo",
    "fixed_time", "max_pressure", "classical", "all", "sumo-rl", "field", "blind_20", "delay", "a.pt", "a.sumocfg", "0" * 32,
    "[bold]x[/bold]", "[/x]", "-q", "-v", "--", "-",
]  # fmt: skip
NOWHERE = "no-such-network"
WIDE = pytest.param(3000, marks=pytest.mark.slow)


def words():
    value = st.one_of(st.sampled_from(VALUES), st.text(max_size=12), st.integers().map(str), st.floats().map(str))
    name = st.one_of(st.sampled_from(OPTIONS), st.text(max_size=6)).map(lambda name: f"--{name}")
    option = st.one_of(
        st.tuples(name, st.lists(value, max_size=3)).map(lambda pair: [pair[0], *pair[1]]),
        st.tuples(name, value).map(lambda pair: [f"{pair[0]}={pair[1]}"]),
        st.lists(value, max_size=1),
    )
    return st.lists(option, max_size=4).map(lambda options: [word for option in options for word in option])


def line(verb, options):
    """Return a command line that ends before it works: the last option wins, and what it names does not exist."""
    return [verb, *options, "--folder" if verb == "import" else "--network", NOWHERE]


LINES = st.builds(line, st.sampled_from(sorted(VERBS)) | st.text(max_size=8), words())


def examples(number):
    """The same examples each time, so that a failure is one of the change."""
    return settings(
        max_examples=number, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip


def check(home, capsys, argv):
    """Run a command line in this process and check how it ends."""
    try:
        code = home.main(argv)
    except SystemExit as ended:  # --help
        code = ended.code or 0
    out, err = capsys.readouterr()
    assert code in (0, 2), (code, out, err)
    assert "Traceback" not in out + err
    if code == 2:
        one_line(err)


@pytest.mark.parametrize("number", [150, WIDE])
def test_any_command_line(home, capsys, monkeypatch, number):
    monkeypatch.chdir(home.folder)

    @examples(number)
    @given(LINES)
    def run(argv):
        check(home, capsys, argv)

    run()


YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates() | st.sampled_from(VALUES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["net", "routes", "additional", "begin_s", "end_s", "licence", "source", "more"]
CROSS = yaml.safe_load((ROOT / "networks" / "cross" / "scenario.yaml").read_text(encoding="utf-8"))
WHOLE = CROSS | {name: f"{ROOT}/networks/cross/{CROSS[name]}" for name in ["net"]}
WHOLE["routes"] = [f"{ROOT}/networks/cross/{path}" for path in CROSS["routes"]]
CHANGED = st.dictionaries(st.sampled_from(FIELDS), YAML, max_size=2).map(lambda change: yaml.safe_dump(WHOLE | change).encode())
SCENARIOS = CHANGED | YAML.map(lambda content: yaml.safe_dump(content).encode()) | st.text().map(str.encode) | st.binary()


@pytest.mark.parametrize("number", [150, WIDE])
def test_any_scenario_file(home, tmp_path, capsys, number):
    names = itertools.count()

    @examples(number)
    @given(SCENARIOS)
    def run(content):
        folder = tmp_path / f"{tmp_path.name}-{next(names)}"  # each its own network
        folder.mkdir()
        (folder / "scenario.yaml").write_bytes(content)
        check(home, capsys, ["networks", "--network", str(folder)])

    run()


@pytest.mark.parametrize("number", [50, WIDE])
def test_any_file_as_a_policy(home, tmp_path, capsys, monkeypatch, number):
    monkeypatch.delenv("DISPLAY", raising=False)
    torch.save({"format": 3, "network": "cross"}, tmp_path / "whole.pt")
    whole, path = (tmp_path / "whole.pt").read_bytes(), tmp_path / "policy.pt"
    cut = st.builds(lambda end, tail: whole[:end] + tail, st.integers(0, len(whole)), st.binary(max_size=50))
    pickled = YAML.map(pickle.dumps)

    @examples(number)
    @given(cut | pickled | st.binary())
    def run(content):
        path.write_bytes(content)
        check(home, capsys, ["watch", "--network", "cross", "--policy", str(path)])

    run()
