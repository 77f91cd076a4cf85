"""Episodes on the machines of a Ray cluster. Only this package imports Ray, and only where a command has `--cluster`."""
