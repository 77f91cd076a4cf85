"""Makes a square grid of signals with its demand: a network of any size, such as grid32x32 with 1,024 signals.

Run it with the number of signals along a side, and the folder to write (default: beside this one):

    python networks/grids/recipe.py 32

Signals are 200 m apart, with two lanes on each approach. Twenty vehicles per signal and hour set out, for 600 to 1,200 m.
"""

import subprocess
import sys
from pathlib import Path

import sumo

SCENARIO = """net: grid.net.xml
routes: [grid.rou.xml]
begin_s: 0
end_s: 600
licence: MIT
source: networks/grids/recipe.py
"""


def main(side: int, folder: Path) -> None:
    """Write the network into a folder."""
    folder.mkdir(parents=True)
    home, net = Path(sumo.SUMO_HOME), folder / "grid.net.xml"
    streets = ["--grid", f"--grid.number={side}", "--grid.length=200", "--grid.attach-length=200", "--default.lanenumber=2"]
    lights = ["--no-turnarounds", "--default-junction-type=traffic_light", "--tls.cycle.time=90", "--seed=1"]
    _run(str(home / "bin" / "netgenerate"), *streets, *lights, "--output-file", str(net))
    amount = ["--begin=0", "--end=600", f"--insertion-rate={20 * side * side}", "--seed=1"]
    trips = [*amount, "--min-distance=600", "--max-distance=1200"]
    files = ["--net-file", str(net), "--output-trip-file", str(folder / "trips.xml")]
    routes = folder / "grid.rou.xml"
    _run(sys.executable, str(home / "tools" / "randomTrips.py"), *files, "--route-file", str(routes), *trips)
    for left in (folder / "trips.xml", routes.with_suffix(".alt.xml")):
        left.unlink(missing_ok=True)
    (folder / "scenario.yaml").write_text(SCENARIO, encoding="utf-8")


def _run(*command: str) -> None:
    """Run a tool of SUMO; it warns of dead ends without links, which is of no interest where it succeeds."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


if __name__ == "__main__":
    here = Path(__file__).resolve().parents[1]
    main(int(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else here / f"grid{sys.argv[1]}x{sys.argv[1]}")
