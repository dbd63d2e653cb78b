"""`make demo`: what circuitd does on the shipped model, as the commands a person would type.

Starts a daemon of its own (private directories, removed at the end), so that one that is running
already is neither used nor disturbed. Every command is printed before it runs.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
SNIPPET = """\
def greet(name):
    if name is None:
        return "nobody"
    return f"hi {name}"
"""
TASK = "single_double_quote"


def main() -> int:
    """Run the tour; the exit status is not 0 when any step failed."""
    # Ended from outside, it still ends its daemon.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="circuitd-demo-") as directory:
        tour = Tour(Path(directory))
        try:
            tour.run()
        except subprocess.CalledProcessError as error:
            print(f"\nThe demo stopped: {shlex.join(error.cmd)} failed.", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            tour.stop()
    return 0


class Tour:
    """The steps, against one private daemon."""

    def __init__(self, directory: Path) -> None:
        self._environment = os.environ | {
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "CIRCUITD_RUNTIME_DIR": str(directory / "run"),
            "CIRCUITD_STATE_DIR": str(directory / "state"),
            "CIRCUITD_CACHE_DIR": str(directory / "cache"),
            "XDG_DATA_HOME": str(directory / "data"),  # where found circuits are kept
        }
        self._environment.pop("CIRCUIT_ENDPOINT", None)
        self._is_running = False

    def run(self) -> None:
        """All steps in order."""
        say("A resident daemon, and the model that ships with it")
        self._is_running = True
        self.shell("circuitd start")
        self.shell("circuit models load")
        self.shell("circuit models describe")

        say("What it can do: the twenty published tasks, on prompts it was not trained on")
        self.shell("circuit tasks evaluate --pairs 64")

        say("A forward pass over a bit of Python: how surprised it is by each token")
        self.shell("circuit", "forward", SNIPPET)

        say("Inside: the strongest neuron of the last layer, on every token")
        self.shell("circuit", "hook", "-s", "3.mlp.post_act", SNIPPET)

        say(f"Which layers does {TASK} need? Mean-ablate each in turn")
        self.shell(f"circuit ablate --task {TASK} --pairs 32 --every layer")
        say("Chance is a loss of ln 2 = 0.693. Without attention the task is gone")
        self.shell(f"circuit ablate --task {TASK} --pairs 32 --sites '*.attn.resid_delta'")

        say("The same question again is answered from the cache")
        started = time.perf_counter()
        self.shell(f"circuit ablate --task {TASK} --pairs 32 --sites '*.attn.resid_delta'")
        print(f"({time.perf_counter() - started:.2f} s, most of it starting the command)")
        self.shell("circuit cache stats")

        say(f"Prune: the few nodes that do {TASK}, all others held at their means")
        self.shell(f"circuit prune --task {TASK} --target-loss 0.15 --seed 0 --sweep demo")
        circuit, strongest = self.found()
        self.shell(f"circuit circuits show {circuit}")

        say("Edit it: drop its strongest node, and see the loss at once")
        self.shell(f"circuit circuits edit {circuit} --drop {strongest}")

        say("Doubt it: four quick controls of ten (without --controls: all, a minute)")
        controls = ("held_out", "necessity", "random_circuits", "ablation_kinds")
        words = " ".join(f"--controls {name}" for name in controls)
        self.shell(f"circuit verify {circuit} {words}", verdicts=True)

        say("And a clean stop")
        self.shell("circuitd stop")
        self._is_running = False

    def found(self) -> tuple[str, str]:
        """The id of the circuit just found, and its node of largest ablation delta."""
        (circuit,) = self.answer("circuit circuits list --sweep demo --json")["circuits"]
        details = self.answer(f"circuit circuits show {circuit['id']} --json")["details"]
        _, node = max(
            (delta, f"{part['site']}:{channel}")
            for part in details["nodes"]
            for channel, delta in zip(part["channels"], part["deltas"], strict=True)
        )
        return circuit["id"], node

    def answer(self, command: str) -> Any:
        """What a command with --json prints, without a word on the screen."""
        done = subprocess.run(
            shlex.split(command), env=self._environment, check=True, capture_output=True
        )
        return json.loads(done.stdout)

    def shell(self, *command: str, verdicts: bool = False) -> None:
        """Print a command and run it; a single string is split as a shell would.

        `verdicts`: exit codes 3 and 4 are answers (not supported, depends), not failures.
        """
        words = shlex.split(command[0]) if len(command) == 1 else list(command)
        print(f"\n$ {shlex.join(words)}", flush=True)
        done = subprocess.run(words, env=self._environment, check=False)
        if done.returncode and not (verdicts and done.returncode in (3, 4)):
            raise subprocess.CalledProcessError(done.returncode, words)

    def stop(self) -> None:
        """End the daemon if a step failed before it was ended."""
        if self._is_running:
            subprocess.run(["circuitd", "stop", "--now"], env=self._environment, check=False)


def say(text: str) -> None:
    """A heading."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
