"""`python -m circuit_tui`: the terminal UI with its defaults; `circuit tui` takes options."""

from circuit_tui.options import Options
from circuit_tui.run import run

raise SystemExit(run(Options()))
