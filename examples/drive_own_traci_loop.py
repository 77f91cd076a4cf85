"""A trained policy drives a SUMO that this script starts and steps through TraCI.

Usage: python drive_own_traci_loop.py POLICY [seconds]
POLICY is an algorithm (its newest finished run), a run id, or a file checkpoint.pt or policy.pt. Its observation, detection
distance and timing come with it.
"""

import sys

import traci

import tsc_marl
from tsc_marl.sim import scenario
from tsc_marl.sim.engine import binary

policy = tsc_marl.load_policy(sys.argv[1])
files = scenario.load(policy.network)
seconds = int(sys.argv[2]) if len(sys.argv) > 2 else files.duration_s

options = ["--net-file", str(files.net), "--route-files", ",".join(map(str, files.routes)), "--begin", str(files.begin_s)]
traci.start([binary("sumo"), *options, "--no-step-log", "--no-warnings", "--time-to-teleport", "-1", "--max-depart-delay", "-1"])
driver = tsc_marl.TraciDriver(traci, files.net, policy)
driver.step()
arrived = 0
for _ in range(seconds):
    traci.simulationStep()
    arrived += traci.simulation.getArrivedNumber()
    driver.step()
traci.close()
print(f"{policy.name} on {policy.network}: {arrived} vehicles arrived in {seconds} s")
