"""Circuits for other programs: pure functions from a `CircuitShown` to a file's text."""
