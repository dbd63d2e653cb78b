"""What each view of a circuit shows, as values: for the terminal UI, for `--json`, for tests."""
