"""What each phase serves and where its links lead: junctions read by hand from the files, and all links from the bare XML."""

import functools
from collections import Counter, defaultdict
from operator import itemgetter
from xml.etree import ElementTree

import numpy as np
import pytest

from tsc_marl.sim import road_network, scenario
from tsc_marl.sim.observations.movements import DISTANCE_M, ONWARD_M, TURNS, Structure

RESCO = ("grid4x4", "arterial4x4", "cologne1", "cologne3", "cologne8", "ingolstadt1", "ingolstadt7", "ingolstadt21")
NETWORKS = (*RESCO, "cross", "grid2x2")
STUB_M = 50.0
MASK = str.maketrans("Ggrs", "2101")

NO_LINK = ("cluster_1427494838_273472399", 2)
"""Its only greens, links 0 and 1, belong to no connection of the file."""
WEST, SOUTH = "32564122:0 32564122:1 32564122:2", "gneJ255:0 gneJ255:3 gneJ255:4 gneJ255:5 gneJ255:6 gneJ255:7 gneJ255:8"
BACK = "243641585:2 243641585:3 30503246:10 30503246:11 30503246:12 30503246:13"
BY_HAND = {  # phases; then link: incoming lane, turn, receiving lanes, links of the next signals within 500 m
    ("ingolstadt21", "30503246"): (
        ("GGggGGGGGrrrrr", "GGGGrrrrrrrrrr", "rrrrrrrrrGGGGG"),
        {
            # two stubs of 20 cm end in one of 3 m; then 62 m, from which two lanes lead on
            0: ("136436466_1", "s", "4942389#0_1 4942389#1_1 202092675_1", f"{WEST} {SOUTH}"),
            1: ("136436466_2", "s", "4942389#0_2 4942389#1_1 202092675_1", f"{WEST} {SOUTH}"),
            2: ("136436466_3", "l", "386687235_1", ""),
            3: ("136436466_3", "l", "386687235_2", ""),
            4: ("-4942389#0_1", "r", "386687235_1", ""),
            5: ("-4942389#0_1", "r", "386687235_2", ""),
            6: ("-4942389#0_1", "s", "-136436466_1", "30624898:11"),
            7: ("-4942389#0_2", "s", "-136436466_2", "30624898:12"),
            8: ("-4942389#0_3", "s", "-136436466_3", "30624898:13 30624898:14"),
            9: ("202092676#0_1", "s", "386687235_1", ""),
            10: ("202092676#0_2", "s", "386687235_2", ""),
            11: ("202092676#0_2", "l", "-136436466_1", "30624898:11"),
            12: ("202092676#0_2", "l", "-136436466_2", "30624898:12"),
            13: ("202092676#0_2", "l", "-136436466_3", "30624898:13 30624898:14"),
        },
    ),
    ("ingolstadt21", "30624898"): (
        ("GGGGGrrrrrrGGgg", "rrrrrrrrrrrGGGG", "rrrrrGGGGGGrrrr"),
        {
            0: ("315358251#1_1", "r", "386687242_1", "243641585:0 243641585:1"),
            1: ("315358251#1_1", "r", "386687242_2", BACK),
            2: ("315358251#1_2", "s", "136436466_1", "30503246:0"),
            3: ("315358251#1_2", "s", "136436466_2", "30503246:1"),
            4: ("315358251#1_3", "s", "136436466_3", "30503246:2 30503246:3"),
            5: ("386687232#0_1", "r", "-315358251#1_1 -315358251#0_1", "89127267:4 89127267:5"),
            7: ("386687232#0_2", "s", "386687242_1", "243641585:0 243641585:1"),
            8: ("386687232#0_2", "s", "386687242_2", BACK),
            9: ("386687232#0_2", "l", "136436466_2", "30503246:1"),
            10: ("386687232#0_2", "l", "136436466_3", "30503246:2 30503246:3"),
            11: ("-136436466_1", "s", "-315358251#1_1 -315358251#0_1", "89127267:4 89127267:5"),
            13: ("-136436466_3", "l", "386687242_1", "243641585:0 243641585:1"),
            14: ("-136436466_3", "l", "386687242_2", BACK),
        },
    ),
    ("grid4x4", "B1"): (
        (
            "GGGGGGrrrsssrrrrrrGGGGGGrrrsssrrrrrr", "sssrrrGGGsssrrrrrrsssrrrGGGsssrrrrrr",
            "GGGGGGGGGsssrrrrrrsssrrrrrrsssrrrrrr", "sssrrrrrrsssrrrrrrGGGGGGGGGsssrrrrrr",
            "sssrrrrrrGGGGGGrrrsssrrrrrrGGGGGGrrr", "sssrrrrrrsssrrrGGGsssrrrrrrsssrrrGGG",
            "sssrrrrrrsssrrrrrrsssrrrrrrGGGGGGGGG", "sssrrrrrrGGGGGGGGGsssrrrrrrsssrrrrrr",
        ),
        {
            0: ("B2B1_0", "r", "B1A1_0", "A1:9 A1:10 A1:11"),
            4: ("B2B1_1", "s", "B1B0_1", "B0:3 B0:4 B0:5"),
            8: ("B2B1_2", "l", "B1C1_2", "C1:33 C1:34 C1:35"),
        },
    ),
    ("arterial4x4", "nt6"): (
        ("GGgsrrGGgsrr", "srrsrGsrrsrG", "srrGGrsrrGGr", "srrGGGsrrsrr", "srrsrrsrrGGG"),
        {
            1: ("nt10_nt6_0", "s", "nt6_nt2_0", "nt2:0 nt2:1 nt2:2"),
            2: ("nt10_nt6_0", "l", "nt6_nt7_1", "nt7:11"),
            4: ("nt7_nt6_0", "s", "nt6_nt5_0", "nt5:3 nt5:4"),
        },
    ),
    ("cologne1", "GS_cluster_357187_359543"): (
        ("rrrrrGGGggrrrrrGGGgg", "rrrrrrrrGGrrrrrrrrGG", "GGGggrrrrrGGGggrrrrr", "rrrGGrrrrrrrrGGrrrrr"),
        {
            0: ("-32038056#3_0", "r", "32038051#0_0", ""),
            8: ("23429231#1_1", "l", "-28198821#4_1", ""),
            14: ("28198821#3_1", "t", "-28198821#4_1", ""),
        },
    ),
    ("cologne3", "360082"): (
        ("GGggrrrGGGg", "rrGGrrrrrrG", "rrrrGGgGrrr"),
        {
            0: ("-241660955#17_0", "s", "-241660955#16_0", "360086:0 360086:1"),
            5: ("-130160207#0_0", "l", "-241660955#16_1", "360086:2 360086:3 360086:4"),
            7: ("241660955#14_0", "r", "130160207#0_0", ""),
        },
    ),
    ("cologne8", "256201389"): (
        ("rrrGGgGgg", "rrrrrGrGG", "GGgGrrrrr"),
        {
            0: ("-24487264_0", "r", "-23648008#3_0", "280120513:3 280120513:4 280120513:5"),
            1: ("-24487264_0", "l", "225249129#0_0 225249129#1_0 323416262_0", ""),  # 13 m, then either way
            5: ("-225249129#0_0", "t", "225249129#0_0 225249129#1_0 323416262_0", ""),
        },
    ),
    ("ingolstadt1", "gneJ207"): (
        ("GGgGrGGG", "GGGrrrrr", "rrrGGGrr"),
        {
            1: ("201963537#1_2", "s", "104010475#0_2 104012170_2 104012170_3 104012170_4", ""),
            2: ("201963537#1_3", "l", "-164051413_1 -653473569#5_1", ""),
            3: ("164051413_1", "r", "124812857#0_1", ""),
        },
    ),
    ("ingolstadt7", "32564122"): (
        ("GGGGGgrrr", "GrrrrrGGG"),
        {
            0: ("32999434#0_1", "r", "24693977#0_1 24693977#1_1", ""),
            3: ("-201089423#1_1", "s", "-32999434#1_1", "gneJ260:3"),
            8: ("-24693977#0_3", "l", "-32999434#1_2", "gneJ260:4"),
        },
    ),
}  # fmt: skip


class Read:
    """A network's structure, with lanes and links by name."""

    def __init__(self, name):
        self.net = road_network.of(scenario.load(name))
        self.structure = Structure(self.net, 200.0)
        self.row = {signal.name: i for i, signal in enumerate(self.net.signals)}
        self.lanes = list(self.net.lane_index)
        self.n_links = self.structure.real.shape[1]
        self.position = {int(number): m for m, number in enumerate(self.structure.links)}

    def number(self, signal, link):
        return self.row[signal] * self.n_links + link

    def lane(self, number):
        return [lane for signal in self.net.signals for lane in signal.lanes][self.structure.slot[self.position[number]]]

    def receiving(self, number):
        receiving = self.structure.receiving
        return [self.lanes[lane] for lane in receiving.lane[receiving.link == self.position[number]]]

    def onward(self, number):
        names = [signal.name for signal in self.net.signals]
        targets = self.structure.onward[self.structure.onward[:, 0] == number, 1].tolist()
        return {f"{names[target // self.n_links]}:{target % self.n_links}" for target in targets}

    def turn(self, number):
        (column,) = self.structure.static.reshape(-1, self.structure.static.shape[-1])[number, -len(TURNS) :].nonzero()[0]
        return TURNS[column]


@functools.cache
def read(name):
    return Read(name)


@pytest.mark.parametrize(("name", "signal"), BY_HAND)
def test_junctions_read_by_hand(name, signal):
    got, (phases, links) = read(name), BY_HAND[name, signal]
    serves = got.structure.serves[got.row[signal]]
    expected = [[int(char) for char in state.translate(MASK)] for state in phases]
    np.testing.assert_array_equal(serves[: len(phases), : len(phases[0])], expected)
    assert not serves[len(phases) :].any()
    assert not serves[:, len(phases[0]) :].any()
    assert got.structure.phase_real[got.row[signal]].sum() == len(phases)
    for link, (lane, turn, receiving, onward) in links.items():
        number = got.number(signal, link)
        assert (got.lane(number), got.turn(number)) == (lane, turn)
        assert got.receiving(number) == receiving.split()
        assert got.onward(number) == set(onward.split())


class Bare:
    """The same file without sumolib: lanes, links and where lanes lead."""

    def __init__(self, path):
        root = ElementTree.parse(path).getroot()
        self.length_m = {lane.get("id"): float(lane.get("length")) for lane in root.iter("lane")}
        self.states = {t.get("id"): [p.get("state") for p in t.iter("phase")] for t in root.iter("tlLogic")}
        self.after, self.links = defaultdict(list), defaultdict(list)
        for c in root.iter("connection"):
            if not c.get("from").startswith(":"):
                in_lane, out_lane = f"{c.get('from')}_{c.get('fromLane')}", f"{c.get('to')}_{c.get('toLane')}"
                if c.get("dir") != "t":
                    self.after[in_lane].append(out_lane)
                if c.get("tl"):
                    self.links[c.get("tl")].append((int(c.get("linkIndex")), in_lane, out_lane, c.get("dir").lower()))

    def downstream(self, lane, stops, reach_m):
        """Shortest ways [m] to the lanes that start within a distance; none leads on from the stops."""
        away, changed = {lane: 0.0}, [lane]
        while changed:
            here = changed.pop()
            for onward in () if here in stops else self.after[here]:
                metres = away[here] + self.length_m[here]
                if metres <= reach_m and metres < away.get(onward, np.inf):
                    away[onward] = metres
                    changed.append(onward)
        return away


@pytest.mark.parametrize("name", NETWORKS)
def test_every_link_of_every_signal_is_as_in_the_bare_file(name):
    got, bare = read(name), Bare(scenario.load(name).net)
    structure = got.structure
    assert set(got.row) == set(bare.links)
    assert Counter(structure.links.tolist()).most_common(1)[0][1] == 1
    assert len(structure.links) == structure.real.sum() == sum(map(len, bare.links.values()))
    for signal, links in bare.links.items():
        others = {lane for other, theirs in bare.links.items() if other != signal for _, lane, _, _ in theirs}
        others -= {lane for _, lane, _, _ in links}
        phases = got.net.signals[got.row[signal]].phases
        assert set(phases) <= set(bare.states[signal])
        for k, (index, in_lane, out_lane, turn) in enumerate(sorted(links, key=itemgetter(0))):
            number = got.number(signal, k)
            served = structure.serves[got.row[signal], : len(phases), k].tolist()
            assert served == [int(state[index].translate(MASK)) for state in phases]
            assert (got.lane(number), got.turn(number)) == (in_lane, turn)
            near = bare.downstream(out_lane, others, ONWARD_M)
            assert set(got.receiving(number)) == {lane for lane, metres in near.items() if metres < STUB_M}
            behind = {
                f"{o}:{j}"
                for o, theirs in bare.links.items()
                for j, link in enumerate(sorted(theirs, key=itemgetter(0)))
                if link[1] in near
            }
            assert got.onward(number) == {link for link in behind if not link.startswith(f"{signal}:")}


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_and_columns_hang_together(name):
    got, structure = read(name), read(name).structure
    idle = [(got.net.signals[i].name, p) for i, p in np.argwhere(structure.phase_real & ~structure.serves.any(axis=-1)).tolist()]
    assert idle == ([NO_LINK] if name == "ingolstadt21" else [])  # every other phase serves a link
    assert not structure.serves[~structure.phase_real].any()
    assert not structure.serves.swapaxes(1, 2)[~structure.real].any()
    assert structure.serves.swapaxes(1, 2)[structure.real].any(axis=-1).all()  # every link is served by a phase
    assert np.isfinite(structure.static).all()
    assert not structure.static[~structure.real].any()
    assert (structure.static[structure.real][:, -len(TURNS) :].sum(axis=1) == 1).all()
    assert (1 / structure.lane_links).sum() == pytest.approx(sum(len(signal.lanes) for signal in got.net.signals))
    assert (structure.receiving.capacity_veh >= 1).all()
    lengths = structure.receiving.means(got.net.lane_length_m)
    assert ((lengths > 0) & np.isfinite(lengths)).all()
    assert (structure.mean_ahead(structure.real.astype(float))[np.isin(structure.links, structure.onward[:, 0])] == 1).all()


def test_the_length_counts_the_longest_road_before_a_stub():
    """164051413 of ingolstadt7 is 8.93 m long; before it are 8.96 m of a junction, 17.33, 5.37 (a junction), and 141.96 m."""
    got = read("ingolstadt7")
    place = next(i for i, signal in enumerate(got.net.signals) if signal.name == "gneJ207")
    link = [link.in_lane for link in got.net.signals[place].links].index("164051413_1")
    length_m = got.structure.static[place, link, 0] * DISTANCE_M
    assert length_m == pytest.approx(8.93 + 8.96 + 17.33 + 5.37 + 141.96)
