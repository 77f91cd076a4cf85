"""Neural networks: agents' networks, critics, normalisation, parameter sharing."""
