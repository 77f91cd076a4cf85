"""Episodes on a Ray cluster: several nodes on this machine, each with a raylet of its own."""

import contextlib
import json
import os
import random
import signal
import socket
import tempfile
import threading
import time

import pytest
import torch
from helpers.cli import ROOT, until

from tsc_marl.errors import UserError
from tsc_marl.paths import NETWORKS
from tsc_marl.rollout.cluster import connection
from tsc_marl.rollout.cluster import pool as cluster_pool
from tsc_marl.rollout.cluster.pool import open_pool
from tsc_marl.rollout.policies import ControllerPolicy
from tsc_marl.rollout.pool import Pool
from tsc_marl.rollout.task import Task
from tsc_marl.rollout.types import Job
from tsc_marl.rollout.worker import Worker
from tsc_marl.sim import bundle

pytest_plugins = ["helpers.fixtures"]
pytest.importorskip("ray")

LINE = "train --network cross --algos ippo --episodes 8 --eval-seeds 1 --baselines random --algo.epochs 1"
STORE = 80 * 2**20
"""Bytes of a node's object store; Ray's least."""
HEAD = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False, "include_log_monitor": False}


class Nodes:
    """A cluster whose head simulates nothing, and nodes of one CPU each."""

    def __init__(self):
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args=HEAD)
        self.address = self.cluster.address
        self.nodes = []
        self.temporary = tempfile.TemporaryDirectory()  # killed slots leave folders behind

    def add(self, **env):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"TMPDIR": self.temporary.name, **env}.items():
                patch.setenv(name, value)
            self.nodes.append(self.cluster.add_node(num_cpus=1, object_store_memory=STORE))
        return self.nodes[-1]

    def kill(self, node):
        """Kill the raylet of a node, as a lost machine ends it."""
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self.nodes.remove(node)

    def keep(self, number):
        """Have so many nodes."""
        while len(self.nodes) < number:
            self.add()
        while len(self.nodes) > number:
            self.cluster.remove_node(self.nodes.pop())

    def playing(self, node):
        """The processes that play an episode on a node."""
        return [pid for pid in _below(node.all_processes["raylet"][0].process.pid) if _busy(pid)]

    def slot_of(self, pid):
        """The slot of an episode's process, above the process that forks."""
        return int(_stat(_stat(pid)[1])[1])


def _stat(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()


def _below(top):
    """The ids of all processes below one."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                parents[int(name)] = int(_stat(name)[1])
            except OSError:
                continue
    found, new = set(), {top}
    while new:
        found |= new
        new = {pid for pid, parent in parents.items() if parent in found} - found
    return found


def _busy(pid):
    """Whether a process simulates: it has SUMO's output files open."""
    try:
        return any("tripinfo_" in os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


@pytest.fixture(scope="module")
def nodes():
    started = Nodes()
    yield started
    started.cluster.shutdown()
    started.temporary.cleanup()


@pytest.fixture(scope="module")
def undisturbed(new_home):
    home = new_home()
    assert home.main(f"{LINE} --workers 2") == 0
    return home


def assert_same(home, expected):
    saved, other = home.checkpoint(), expected.checkpoint()
    weights, others = saved["training"]["weights"], other["training"]["weights"]
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert [row["delay"] for row in saved["history"]] == [row["delay"] for row in other["history"]]
    assert [row["steps"] for row in saved["history"]] == [row["steps"] for row in other["history"]]
    results = [json.loads((run.training / "evaluation.json").read_text(encoding="utf-8"))["results"] for run in (home, expected)]
    assert results[0] == results[1]


def episodes(pool, jobs):
    return {result.job.episode: result for result in pool.run(jobs)}


@pytest.mark.sumo
def test_a_training_is_the_same_as_on_this_machine(home, nodes, undisturbed, capsys):
    nodes.keep(2)
    assert home.main(f"{LINE} --workers 2 --cluster {nodes.address}") == 0
    assert_same(home, undisturbed)
    assert capsys.readouterr().err == ""


@pytest.mark.sumo
def test_evaluations_and_their_files_are_the_same(home, nodes, tmp_path):
    """cologne1 has many ties, which SUMO breaks by where things lie in memory."""
    nodes.keep(2)
    line = f"evaluate --network cologne1 cross --policy pretrained --eval-seeds 1 --workers 2 --out {tmp_path}"
    assert home.main(f"{line}/near") == 0
    assert home.main(f"{line}/far --cluster {nodes.address}") == 0
    near, far = ({path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
                 for folder in (tmp_path / "near", tmp_path / "far"))  # fmt: skip
    assert near.keys() == far.keys()
    for name in near:
        if name.name == "metrics.json":
            assert json.loads(near[name].read_bytes())["results"] == json.loads(far[name].read_bytes())["results"]
        if name.name.startswith("tripinfo"):
            trips = [path.read_text(encoding="utf-8").partition("<tripinfos")[2] for path in (near[name], far[name])]
            assert trips[0] == trips[1]


@pytest.mark.sumo
def test_a_node_killed_while_it_plays(home, nodes, undisturbed, capsys):
    nodes.keep(2)
    victim = nodes.nodes[-1]

    def kill():
        until(lambda: nodes.playing(victim), 120)
        nodes.kill(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    assert home.main(f"{LINE} --workers 2 --cluster {nodes.address}") == 0
    killer.join()
    lost = [line for line in capsys.readouterr().out.splitlines() if "was lost on episode" in line]
    assert len(lost) == 1
    assert lost[0].endswith("the episode is played again elsewhere")
    assert_same(home, undisturbed)


@pytest.mark.sumo
def test_a_study_simulates_on_the_cluster(home, nodes, capsys):
    nodes.keep(1)
    line = "study --network cross --algos ippo --seeds 0 --episodes 2 --eval-seeds 1 --baselines --algo.epochs 1"
    assert home.main(f"{line} --cluster {nodes.address}") == 0
    assert len(home.checkpoints) == 1
    assert set(home.statuses().values()) == {"FINISHED"}


def test_more_workers_than_slots(home, nodes, capsys):
    nodes.keep(1)
    line = f"evaluate --network cross --policy random --out {home.folder}/out --cluster"
    assert home.main(f"{line} {nodes.address} --workers 2") == 2
    assert "workers 2 is more than the 1 slots of the cluster" in capsys.readouterr().err


@pytest.mark.sumo
def test_a_node_that_joins_gets_jobs(nodes):
    nodes.keep(1)
    jobs = [Job(i, Task("cross"), ControllerPolicy("max_pressure"), 1000 + i) for i in range(120)]
    with open_pool(None, cluster=nodes.address) as pool:
        results = pool.run(jobs)
        played = [next(results)]
        joined, works = nodes.add(), False
        for result in results:
            played.append(result)
            works = works or bool(nodes.playing(joined))
            if works and len(played) >= 20:
                break
    assert works
    with Pool(1) as pool:
        expected = episodes(pool, jobs[:5])
    metrics = {result.job.episode: result.metrics for result in played}
    assert len(played) == len(metrics)
    assert all(metrics[i] == expected[i].metrics for i in expected)


@pytest.mark.sumo
def test_a_node_with_another_sumo_is_left_out(nodes, tmp_path, caplog, monkeypatch):
    nodes.keep(1)
    other = tmp_path / "libsumo-1.20.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: libsumo\nVersion: 1.20.0\n", encoding="utf-8")
    wrong = nodes.add(PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(ROOT))]))
    jobs = [Job(i, Task("cross"), ControllerPolicy("random"), 1000 + i) for i in range(4)]
    with open_pool(2, cluster=nodes.address) as pool:
        assert len(episodes(pool, jobs)) == 4
        (slot,) = pool._workers
        assert slot.node.id != wrong.node_id
    (warning,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "SUMO is 1.20.0 there, 1.28.0 here" in warning
    nodes.cluster.remove_node(nodes.nodes.pop(0))
    monkeypatch.setattr(cluster_pool, "EMPTY_S", 3.0)
    with open_pool(None, cluster=nodes.address) as pool, pytest.raises(UserError, match="no usable machine"):
        episodes(pool, jobs)
    nodes.keep(0)


def test_an_address_where_nothing_answers(home, capsys, monkeypatch):
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for verb, scheme in (("train", ""), ("study", ""), ("train", "ray://")):
            address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
            assert home.main(f"{verb} --network cross --algos ippo --cluster {address}") == 2
            assert f"error: cluster {address} does not answer within 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --network cross --algos ippo --cluster here", "cluster must be auto, host:port or ray://host:port; got here"),
        ("watch --network cross --cluster auto", "watch works on this machine alone; leave out CLUSTER (--cluster)"),
    ],
)
def test_a_cluster_that_cannot_be(home, capsys, line, message):
    assert home.main(line) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_ray(home, tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError('no module named ray')", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    code, out, error = home.run("train --network cross --algos ippo --cluster auto", PYTHONPATH=path)
    assert (code, out) == (2, "")
    assert error == "error: cluster auto needs Ray (no module named ray); install it: pip install 'tsc_marl[cluster]'\n"


def test_the_files_of_a_network_travel(tmp_path):
    """With the files that they include, and to a machine that has none of them."""
    home = tmp_path / "town"
    (home / "parts").mkdir(parents=True)
    for path in (NETWORKS / "cross").iterdir():
        (home / path.name).write_bytes(path.read_bytes())
    (demand,) = home.glob("*.rou.xml")
    demand.rename(home / "parts" / "vehicles.xml")
    demand.write_text('<routes><include href="parts/vehicles.xml"/></routes>', encoding="utf-8")
    task = Task(str(home))
    job = Job(0, task, ControllerPolicy("max_pressure"), 1000)
    packed = bundle.pack(task.scenario)
    assert packed.digest == bundle.pack(task.scenario).digest

    def metrics(job):
        worker = Worker()
        try:
            return worker.play(job).metrics
        finally:
            worker.close()

    expected = metrics(job)
    bundle.unpack(packed.files, tmp_path / "node" / packed.digest)
    bundle.unpack(packed.files, tmp_path / "node" / packed.digest)  # another slot was quicker
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    moved = task.moved(bundle.at(packed.scenario, tmp_path / "node" / packed.digest))
    assert metrics(Job(0, moved, ControllerPolicy("max_pressure"), 1000)) == expected
    assert [path.name for path in (tmp_path / "node").iterdir()] == [packed.digest]


@pytest.mark.slow
def test_twenty_random_kills(new_home, nodes, capsys):
    """Nodes, slots and episodes die at random; others join; the training is that of an undisturbed machine."""
    line = LINE.replace("--episodes 8", "--episodes 160")
    expected, home = new_home(), new_home()
    assert expected.main(f"{line} --workers 2") == 0
    nodes.keep(3)
    rng, log, started = random.Random(0), [], time.monotonic()
    process = home.start(f"{line} --workers 2 --cluster {nodes.address}")
    printed = []
    reader = threading.Thread(target=lambda: printed.extend(process.stdout))
    reader.start()
    while len(log) < 20 and process.poll() is None:
        time.sleep(rng.uniform(0.5, 4))
        working = [(node, pids) for node in nodes.nodes if (pids := nodes.playing(node))]
        if not working:
            continue
        (node, pids), what = rng.choice(working), rng.choice(["raylet", "slot", "episode"])
        if what == "raylet":
            nodes.kill(node)
            nodes.add()
        else:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(pids[0] if what == "episode" else nodes.slot_of(pids[0]), signal.SIGKILL)
        log.append(f"{time.monotonic() - started:.0f} s {what}")
    reader.join()
    lost = [line for line in printed if "played again" in line]
    with capsys.disabled():
        print(f"\nkills: {', '.join(log)}\n{''.join(lost)}")
    assert process.wait() == 0, process.stderr.read()
    assert len(log) == 20
    assert lost
    assert_same(home, expected)
