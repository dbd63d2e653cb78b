"""Circuits compiled: a forward pass costs what its open nodes cost, not what the network costs."""
