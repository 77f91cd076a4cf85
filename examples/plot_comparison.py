"""A plot of delays: controllers and trained policies on the same seeds.

Usage: python plot_comparison.py [network] [file.png] [policy ...]
"""

import sys

import matplotlib as mpl

import tsc_marl

mpl.use("Agg")  # no display needed
from matplotlib import pyplot as plt

network = sys.argv[1] if len(sys.argv) > 1 else "cologne3"
path = sys.argv[2] if len(sys.argv) > 2 else "comparison.png"
policies = sys.argv[3:] or ["fixed_time", "actuated", "max_pressure"]

frame = tsc_marl.evaluate(network, policies, seeds=range(1000, 1005)).to_frame()
delays = frame.pivot(index="seed", columns="policy", values="delay")
delays = delays[delays.mean().sort_values().index]

figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.boxplot(delays.to_numpy(), tick_labels=list(delays.columns))
axis.set_ylabel("delay per vehicle [s]")
axis.set_title(f"{network}, {len(delays)} SUMO seeds")
figure.savefig(path, dpi=150)
print(delays.describe().loc[["mean", "min", "max"]].round(1))
