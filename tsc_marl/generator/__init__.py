"""Road networks with demand, made from a seed: streets, signal programs, vehicles."""
