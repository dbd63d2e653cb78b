"""From data to styled lines: pure functions, for a terminal command and a terminal UI alike."""
