"""Makes rush5x5.net.xml and rush5x5.rou.xml: a rush hour on 25 signals. Run it in this folder, with SUMO's tools on the PATH.

Five arterials run west to east (20 m/s; a lane for straight on and right, one for left), five avenues south to north (11 m/s, one
lane), 200 m apart. Each signal has five phases. Traffic to the east and north has its peak after 20 minutes, traffic to the west
and south after 35. Vehicles are drawn anew for each seed.
"""

import itertools
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import sumolib

N, SPACING_M = 5, 200
ARTERIAL, AVENUE = 'numLanes="2" speed="20" priority="3"', 'numLanes="1" speed="11" priority="2"'
SLOT_S = 300
PEAK_SHARE = (0.3, 0.5, 0.75, 1.0, 1.0, 1.0, 0.75, 0.5, 0.3, 0.1)
"""Of the peak flow, slot by slot."""
BEGIN_S = {"E": 0, "N": 0, "W": 900, "S": 900}
"""When the flows to each side begin."""
PEAK_VEH_H = {"arterial": 800, "avenue": 320, "turn": 19}
"""Straight on along each street, and of each turn from an arterial into an avenue or back."""
CYCLE = (("N S", "rsl", 30), ("E W", "rs", 30), ("E W", "l", 12), ("E", "rsl", 12), ("W", "rsl", 12))
"""Sides whose traffic has green, its turns, and seconds."""
FILES = (("node", "nod", "nodes"), ("edge", "edg", "edges"), ("connection", "con", "connections"))


def node(x: int, y: int) -> str:
    """Return the name of a junction, such as `C2`; streets end at x or y of -1 and N."""
    return f"{'wABCDEe'[x + 1]}{y}" if 0 <= y < N else f"{'ABCDE'[x]}{'s' if y < 0 else 'n'}"


def streets() -> list[list[str]]:
    """Return the junctions along each street, in both directions."""
    ends = range(-1, N + 1)
    along = [[node(x, y) for x in ends] for y in range(N)] + [[node(x, y) for y in ends] for x in range(N)]
    return [*along, *(street[::-1] for street in along)]


def is_arterial(a: str, b: str) -> bool:
    """Return whether a street that passes these junctions runs west to east."""
    return a[1] == b[1]


def write_plain(folder: Path) -> None:
    """Write nodes, edges and connections."""
    rows: dict[str, list[str]] = {"nodes": [], "edges": [], "connections": []}
    for x, y in itertools.product(range(-1, N + 1), repeat=2):
        inside = (0 <= x < N) + (0 <= y < N)
        if inside:
            kind = "traffic_light" if inside == 2 else "priority"
            rows["nodes"].append(f'<node id="{node(x, y)}" x="{x * SPACING_M}" y="{y * SPACING_M}" type="{kind}"/>')
    for a, b in (pair for street in streets() for pair in itertools.pairwise(street)):
        rows["edges"].append(f'<edge id="{a}{b}" from="{a}" to="{b}" {ARTERIAL if is_arterial(a, b) else AVENUE}/>')
    for a, b, c, lane, onto in turns():
        rows["connections"].append(f'<connection from="{a}{b}" to="{b}{c}" fromLane="{lane}" toLane="{onto}"/>')
    for _, ending, tag in FILES:
        (folder / f"x.{ending}.xml").write_text(f"<{tag}>{''.join(rows[tag])}</{tag}>", encoding="utf-8")


def turns() -> list[tuple[str, str, str, int, int]]:
    """Return every way over a junction, with its lanes: left turns from arterials have a lane of their own."""
    ways = []
    for x, y in itertools.product(range(N), repeat=2):
        around = {"E": node(x + 1, y), "N": node(x, y + 1), "W": node(x - 1, y), "S": node(x, y - 1)}
        for side, goal in itertools.permutations("ENWS", 2):
            left = goal == "ENWS"[("ENWS".index(side) - 1) % 4]  # who comes from the east has the south on the left
            lanes = int(left and side in "EW"), int(left and goal in "EW")
            ways.append((around[side], node(x, y), around[goal], *lanes))
    return ways


def programs(net: sumolib.net.Net) -> str:
    """Return the signals' programs."""
    text = []
    for signal in net.getTrafficLights():
        links = sorted(signal.getConnections(), key=lambda link: link[2])
        states = ["".join(colour(lane, onto, sides, wanted) for lane, onto, _ in links) for sides, wanted, _ in CYCLE]
        steps = []
        for state, (_, _, seconds) in zip(states, CYCLE, strict=True):
            yellow = state.replace("G", "y").replace("g", "y")
            steps.append(f'<phase duration="{seconds}" state="{state}"/><phase duration="3" state="{yellow}"/>')
        text.append(f'<tlLogic id="{signal.getID()}" type="static" programID="0" offset="0">{"".join(steps)}</tlLogic>')
    return f"<tlLogics>{''.join(text)}</tlLogics>"


def colour(lane: sumolib.net.lane.Lane, onto: sumolib.net.lane.Lane, sides: str, wanted: str) -> str:
    """Return what a phase shows to a link; left turns yield where traffic from ahead has green too."""
    turn = next(connection.getDirection() for connection in lane.getOutgoing() if connection.getToLane() is onto)
    (x, y), (to_x, to_y) = (end.getCoord()[:2] for end in (lane.getEdge().getFromNode(), lane.getEdge().getToNode()))
    side = ("E" if x > to_x else "W") if abs(x - to_x) > abs(y - to_y) else ("N" if y > to_y else "S")
    if side not in sides or turn not in wanted:
        return "r"
    return "g" if turn == "l" and len(sides) > 1 and wanted == "rsl" else "G"


def flows() -> list[tuple[list[str], int]]:
    """Return ways and peaks [veh/h]: along every street, from each arterial into each avenue on both sides, and back."""
    every, ways = streets(), []
    for street in every:
        arterial = is_arterial(*street[:2])
        ways.append((street, PEAK_VEH_H["arterial" if arterial else "avenue"]))
        for other in (other for other in every if is_arterial(*other[:2]) != arterial):
            meet = next(name for name in street if name in other)
            ways.append((street[: street.index(meet)] + other[other.index(meet) :], PEAK_VEH_H["turn"]))
    return ways


def demand() -> str:
    """Return the route file."""
    rows = ['<vType id="car" length="5" accel="2.6" decel="4.5" sigma="0.5" speedDev="0.1"/>']
    timed = []
    for number, (way, peak) in enumerate(flows()):
        a, b = way[-2:]
        goal = (b[0] if is_arterial(a, b) else b[1]).upper()
        edges = " ".join(f"{one}{two}" for one, two in itertools.pairwise(way))
        rows.append(f'<route id="r{number}" edges="{edges}"/>')
        for slot, share in enumerate(PEAK_SHARE):
            begin = BEGIN_S[goal] + slot * SLOT_S
            of = f'route="r{number}" type="car" departLane="best" departSpeed="max"'
            when = f'begin="{begin}" end="{begin + SLOT_S}" probability="{share * peak / 3600:.5f}"'
            timed.append((begin, f'<flow id="f{number}_{slot}" {of} {when}/>'))
    return "<routes>\n" + "\n".join([*rows, *(flow for _, flow in sorted(timed))]) + "\n</routes>\n"


with TemporaryDirectory() as name:
    folder = Path(name)
    write_plain(folder)
    given = [f"--{kind}-files={folder}/x.{ending}.xml" for kind, ending, _ in FILES]
    command = ["netconvert", *given, "--no-turnarounds", "-o", "rush5x5.net.xml"]
    subprocess.run(command, check=True)
    (folder / "x.tll.xml").write_text(programs(sumolib.net.readNet("rush5x5.net.xml")), encoding="utf-8")
    subprocess.run([*command, f"--tllogic-files={folder}/x.tll.xml"], check=True)
network = Path("rush5x5.net.xml")
network.write_text(re.sub(r"<!--.*?-->\n*", "", network.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8")
Path("rush5x5.rou.xml").write_text(demand(), encoding="utf-8")
