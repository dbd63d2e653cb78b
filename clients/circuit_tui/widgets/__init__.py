"""Widgets, one a module. They are given values and post messages; none asks the daemon."""
