"""Benchmarks of circuitd: `python -m benchmarks`. docs/benchmarks.md says what each row means."""
