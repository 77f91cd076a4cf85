"""A second opinion on the lights, from nothing but the states that SUMO wrote down."""

import itertools
import re
from collections import defaultdict
from xml.etree import ElementTree

import numpy as np
import sumolib


def read(path):
    """Return, per signal, the states that SUMO logged, one a second."""
    logged = defaultdict(list)
    for element in ElementTree.parse(path).getroot():
        logged[element.get("id")].append((float(element.get("time")), element.get("state")))
    for name, rows in logged.items():
        assert (np.diff([time for time, _ in rows]) == 1).all(), name
    return {name: [state for _, state in rows] for name, rows in logged.items()}


def check(states, timing, cut=False):
    """Check yellow, all-red, least green and longest red of every link; return how many greens ended.

    `cut`: the log starts in the middle of a cycle, so nobody knows when what it starts with began.
    """
    _check_clearance(states, timing)
    changes = 0
    for link in range(len(states[0])):
        colours = "".join(state[link] for state in states).replace("g", "G").replace("s", "r")
        if cut:
            colours = re.sub("^(G*y*|r*)", "", colours)
        for yellow in re.finditer("(y+)(r*)", colours):
            if len(colours) - yellow.start() < timing.yellow_s + timing.all_red_s:
                continue  # cut by the end of the window
            changes += 1
            assert len(yellow[1]) == timing.yellow_s, (link, yellow.start())
            assert len(yellow[2]) >= timing.all_red_s, (link, yellow.start())
        for wrong in ("Gr", "ry", "yG"):
            assert wrong not in colours, (link, wrong, colours.index(wrong))
        for green in re.finditer(r"(?<!G)G+(?=y)", colours):
            assert len(green[0]) >= timing.min_green_s, (link, green.start())
        if timing.max_red_s and "G" in colours:
            assert max((len(red) for red in re.findall("r+", colours)), default=0) <= timing.max_red_s, link
    return changes


def _check_clearance(states, timing):
    for t, (before, now) in enumerate(itertools.pairwise(states)):
        if any(a in "Gg" and b == "y" for a, b in zip(before, now, strict=True)):
            for state in states[t + 1 : t + 1 + timing.yellow_s + timing.all_red_s]:
                starts = [a not in "Gg" and b in "Gg" for a, b in zip(before, state, strict=True)]
                assert not any(starts), f"a green starts before the clearance after {t} is over"


class Conflicts:
    """Which links of a signal may not both have a green that yields to nobody, by the network file's right of way."""

    def __init__(self, path):
        self.net = sumolib.net.readNet(str(path), withInternal=True, withPrograms=True)

    def of(self, signal):
        """Return pairs of links that cross; two that only merge into one lane are left out."""
        links = []
        for in_lane, out_lane, link in self.net.getTLS(signal).getConnections():
            node = in_lane.getEdge().getToNode()
            links += [(link, node, node.getLinkIndex(c), out_lane) for c in in_lane.getOutgoing() if c.getToLane() == out_lane]
        return [
            (a, b)
            for (a, node, i, lane), (b, other, j, onto) in itertools.combinations(links, 2)
            if node == other and min(i, j) >= 0 and lane != onto and node.areFoes(i, j)
        ]
