"""Sparse execution on the CPU: nonzero weights only, activations [channels, lanes]."""
