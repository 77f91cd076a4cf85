"""The way out of the computer: a folder from which a controller on the street runs a policy without this program."""
