"""Fault campaign: kills, damage, fuzz, full disks and lost stores. `make chaos` runs it."""
