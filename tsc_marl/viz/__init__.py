"""Pictures of an episode: maps, videos, sumo-gui."""
