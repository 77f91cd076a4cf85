"""Episodes: one with one policy (`worker`), many at once on this machine (`local`)."""
