"""A policy drives signals live: those of a SUMO that others started, or of a street, through a gateway."""
