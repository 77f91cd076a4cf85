"""One's own city: from a map or SUMO's files to a network to train on, with a page for engineers."""
