"""A client in a process of its own, without torch: `python -m benchmarks.client_process`.

Arguments: endpoint, model, vocabulary size. Each line on standard input is a number; so many
forward passes of prompts of changing length are asked for, and a line is printed when they are
answered.
"""

import sys

import numpy as np

from circuit_client import connect


def main(endpoint: str, model: str, vocab_size: str) -> None:
    """Answer lines until standard input ends."""
    random = np.random.default_rng(0)
    with connect(endpoint, start=False) as client:
        print("connected", flush=True)
        for line in sys.stdin:
            for _ in range(int(line)):
                tokens = random.integers(int(vocab_size), size=int(random.integers(8, 129)))
                client.forward(model, tokens=tokens, use_cache=False)
            print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
