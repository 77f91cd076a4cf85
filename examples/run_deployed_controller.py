"""A folder of `make deploy` drives SUMO, without tsc_marl. Usage: run_deployed_controller.py FOLDER SECONDS [options of SUMO]."""

import json
import sys
from collections import defaultdict

import libsumo

folder, seconds, *options = sys.argv[1:]
sys.path.insert(0, folder)
from controller import StreetController  # noqa: E402

libsumo.start(["sumo", *options])
begin, vehicle = int(libsumo.simulation.getTime()), libsumo.vehicle
controller = StreetController(folder, begin)
plans, decision_s = controller.recipe["signals"], controller.timing["decision_s"]
reach_m, detectors = controller.recipe["observation"]["detection_m"], defaultdict(list)
for own, lane in (pair for plan in plans.values() for pair in plan["lanes"].items()):
    for stretch in lane["detectors"]:
        detectors[stretch["lane"]].append((own, stretch))


def read() -> dict:
    """Return what the detectors of the recipe would read now."""
    lanes, receiving = (defaultdict(lambda: defaultdict(float)) for _ in range(2))
    links = {signal: defaultdict(lambda: defaultdict(float)) for signal in plans}
    for name in (name for name in vehicle.getIDList() if not vehicle.getStopState(name) & 2):  # 2: parked
        lane, pos_m, speed = vehicle.getLaneID(name), vehicle.getLanePosition(name), vehicle.getSpeed(name)
        state = "halting" if speed < 0.1 else "moving"
        receiving[lane]["vehicles"] += 1
        receiving[lane]["halting"] += state == "halting"
        for own, stretch in detectors[lane]:
            if (to_line_m := stretch["offset_m"] + (stretch["length_m"] - pos_m)) <= reach_m:
                row, share = lanes[own], stretch["share"]
                row[state] += share
                row["arriving"] += share * (state == "moving" and to_line_m < speed * decision_s)
                row["sum"] += share * min(1, speed / stretch["limit_ms"])
                row["speed"] = row["sum"] / (row["halting"] + row["moving"])
                row["waiting_s"] = max(row["waiting_s"], vehicle.getWaitingTime(name) if state == "halting" else 0)
        signal, link, distance_m, _ = next(iter(vehicle.getNextTLS(name) if detectors[lane] else ()), ("", 0, 0, ""))
        if signal in plans and distance_m <= reach_m:
            row = links[signal][str(link)]
            row[state] += 1
            row["arriving"] += state == "moving" and distance_m < speed * decision_s
            row["near"] += distance_m < 50
    return {"lanes": lanes, "links": links, "receiving": receiving}


chosen = []
for second in range(begin, begin + int(seconds)):
    if (second - begin) % decision_s == 0:
        chosen.append(controller.decide(second, read()))
    for signal, light in controller.lights(second).items():
        libsumo.trafficlight.setRedYellowGreenState(signal, light)
    libsumo.simulationStep()
libsumo.close()
print(json.dumps(chosen))
