"""Canvases: pictures made of cells, whose state is numpy and which redraw only what changed."""
