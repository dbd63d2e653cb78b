"""The command line `circuit`: what a person types to ask a daemon.

Data goes to stdout (`--json`: one document, or one line per event of a stream), narration and
progress to stderr. Exit codes: 0 done; 1 the daemon is out of reach, busy or at fault; 2 the
request is at fault; 130 interrupted; `verify` adds 3 (not supported) and 4 (it depends). One module
per command or group, imported when it is used.
"""

import sys


def main() -> None:
    """The console script `circuit`."""
    from circuit_client.cli.app import run

    sys.exit(run(sys.argv[1:]))
