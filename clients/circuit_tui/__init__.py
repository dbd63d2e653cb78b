"""The terminal UI of circuitd: circuits, masks and token highlights, live, over SSH.

`circuit tui` runs it. Nothing is imported here, so that the first frame is painted at once.
"""
