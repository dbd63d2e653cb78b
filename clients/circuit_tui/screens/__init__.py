"""Screens, one a module: each shows one view of the scene and asks the link for what it needs."""
