"""Controllers beside a road, in SUMO: they ask a gateway (`make serve`) for phases, and have programs of their own without it.

Usage: roadside_controller.py URL SECONDS SPEED [options of SUMO]; SPEED 1 is real time. Prints each decision. URL is
http://127.0.0.1:8840, or with a broker mqtt://127.0.0.1:1883/NETWORK.
"""

import json
import sys
import time

import libsumo
from gateway_lines import line_to
from sumo_detectors import Detectors

url, seconds, speed, *options = sys.argv[1:]
libsumo.start(["sumo", *options])
detectors = Detectors((line := line_to(url)).recipe, libsumo.vehicle)
light, plans, begin = libsumo.trafficlight, detectors.plans, int(libsumo.simulation.getTime())
programs = {signal: light.getProgram(signal) for signal in plans}
logics = {signal: {logic.programID: logic for logic in light.getAllProgramLogics(signal)} for signal in plans}
steps = {signal: [phase.state for phase in logics[signal][programs[signal]].phases] for signal in plans}
if lacking := [signal for signal, plan in plans.items() if {p["state"] for p in plan["phases"]} - set(steps[signal])]:
    sys.exit(f"the own programs of {lacking} lack phases, so that they could not take over")
due, driven, requested = {signal: [] for signal in plans}, set(), {}


def ask(now):
    """Return what the gateway says; after 1 s, or when something is wrong with it, that it drives no signal."""
    shown = {"shown": {signal: light.getRedYellowGreenState(signal) for signal in plans}}
    try:
        return line.ask({"time_s": now, **shown, **detectors.read()})
    except (OSError, ValueError) as error:
        return {"requests": {}, "lights": {}, "fallback": dict.fromkeys(plans, f"no answer: {error}")}


def show(signal, now):
    """Show the state that is due; then, without the gateway, start the own program in the step that shows the present phase."""
    while due[signal] and due[signal][0][0] <= now:
        light.setRedYellowGreenState(signal, due[signal].pop(0)[1])
    if signal not in requested and signal in driven and not due[signal]:
        step = steps[signal].index(light.getRedYellowGreenState(signal))
        light.setProgram(signal, programs[signal])
        light.setPhase(signal, step)
        driven.remove(signal)


for second in range(begin, begin + int(seconds)):
    for signal in plans:
        show(signal, second)
    if (second - begin) % detectors.decision_s == 0:
        answer = ask(second)
        requested, due = answer["requests"], due | answer["lights"]
        driven |= requested.keys()
        print(json.dumps({"second": second, "requests": requested, "fallback": answer["fallback"]}), flush=True)
        for signal in plans:
            show(signal, second)
    libsumo.simulationStep()
    time.sleep(1 / float(speed))
libsumo.close()
