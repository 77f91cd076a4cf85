"""Figures of one episode, from SUMO's own output files: one definition each, over all vehicles scheduled in the window.

| figure | formula | unit |
|---|---|---|
| delay | mean of timeLoss + departDelay; a vehicle never inserted is charged until the horizon | s |
| time_loss, insertion_delay | its two parts | s |
| travel_time | mean duration of the vehicles that arrived | s |
| waiting | mean time below 0.1 m/s of the inserted vehicles | s |
| queue | mean over time of the halting vehicles in the network, per signal | veh |
| scheduled, arrived, never_inserted | counts | veh |
| teleports | must be 0 here: teleporting is off | veh |
| co2, fuel | totals, when asked for | kg |
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

FIGURES = (
    "delay", "time_loss", "insertion_delay", "travel_time", "waiting", "queue",
    "scheduled", "arrived", "never_inserted", "teleports",
)  # fmt: skip


def read(out: Path, seed: int, n_signals: int) -> dict[str, float]:
    """Return the figures of the episode whose files `tripinfo_<seed>.xml` and `summary_<seed>.xml` lie in `out`."""
    columns = ("departDelay", "timeLoss", "duration", "waitingTime", "depart", "arrival")
    rows, emitted = [], []
    for _, element in ElementTree.iterparse(out / f"tripinfo_{seed}.xml"):
        if element.tag == "tripinfo":
            rows.append([float(element.attrib[column]) for column in columns])
            element.clear()
        elif element.tag == "emissions":
            emitted.append([float(element.attrib["CO2_abs"]), float(element.attrib["fuel_abs"])])
    delay, loss, duration, waiting, depart, arrival = np.array(rows).reshape(-1, len(columns)).T
    inserted, arrived = depart >= 0, arrival >= 0
    halting, teleports = _summary(out / f"summary_{seed}.xml")
    figures = {
        "delay": _mean(loss + delay),
        "time_loss": _mean(loss),
        "insertion_delay": _mean(delay),
        "travel_time": _mean(duration[arrived]),
        "waiting": _mean(waiting[inserted]),
        "queue": halting / n_signals,
        "scheduled": float(len(rows)),
        "arrived": float(arrived.sum()),
        "never_inserted": float((~inserted).sum()),
        "teleports": teleports,
    }
    if emitted:
        co2_mg, fuel_mg = np.sum(emitted, axis=0)
        figures |= {"co2": co2_mg / 1e6, "fuel": fuel_mg / 1e6}
    return figures


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _summary(path: Path) -> tuple[float, float]:
    halting, teleports = [], 0.0
    for _, element in ElementTree.iterparse(path):
        if element.tag == "step":
            halting.append(float(element.attrib["halting"]))
            teleports = float(element.attrib["teleports"])
    return _mean(np.array(halting)), teleports
