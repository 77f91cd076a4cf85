"""Everything that knows SUMO; nothing here knows torch."""
