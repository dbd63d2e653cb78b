"""`python -m circuitd` is the command `circuitd`."""

from circuitd.cli import main

main()
