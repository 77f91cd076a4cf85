"""A policy drives a SUMO that this script steps. Usage: python drive_own_traci_loop.py [network] [policy] [seconds]."""

import sys

import traci

import tsc_marl
from tsc_marl.sim import engine, scenario

network, policy, seconds = (*sys.argv[1:], *("grid2x2", "pretrained", "600")[len(sys.argv) - 1 :])
files = scenario.load(network)  # of your own simulation you know the files: sumo -c town.sumocfg, and "town.sumocfg" below
options = ["-n", str(files.net), "-r", ",".join(map(str, files.routes)), "-b", str(files.begin_s), "--no-step-log"]
traci.start([engine.binary("sumo"), *options])
pilot = tsc_marl.Pilot(policy, network, watchdog=tsc_marl.Watchdog())
pilot.step(traci)
for _ in range(int(seconds)):
    traci.simulationStep()
    pilot.step(traci)
print(f"{traci.vehicle.getIDCount()} vehicles on the road after {seconds} s; faults: {pilot.faults or 'none'}")
traci.close()
