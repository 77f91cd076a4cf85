"""Episodes: `worker` plays one with one policy, `pool` plays many at once on this machine."""
