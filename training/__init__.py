"""The recipe that trains the models shipped in `data/`; no part of the wheel."""
