"""A folder of `make deploy` drives SUMO, without tsc_marl. Usage: run_deployed_controller.py FOLDER SECONDS [options of SUMO]."""

import importlib
import json
import sys

import libsumo
from sumo_detectors import Detectors

folder, seconds, *options = sys.argv[1:]
sys.path.insert(0, folder)
libsumo.start(["sumo", *options])
begin, chosen = int(libsumo.simulation.getTime()), []
controller = importlib.import_module("controller").StreetController(folder, begin)
detectors = Detectors(controller.recipe, libsumo.vehicle)
for second in range(begin, begin + int(seconds)):
    if (second - begin) % detectors.decision_s == 0:
        chosen.append(controller.decide(second, detectors.read()))
    for shown in controller.lights(second).items():
        libsumo.trafficlight.setRedYellowGreenState(*shown)
    libsumo.simulationStep()
libsumo.close()
print(json.dumps(chosen))
