"""Measurements of the program itself: speed, MPE, RESCO's networks."""
