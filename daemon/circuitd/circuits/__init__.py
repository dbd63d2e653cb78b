"""Circuits: nodes, edges, masks and what happens to a model's loss when some of it is ablated."""
