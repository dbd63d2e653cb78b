"""From a run's checkpoint to a model directory that the daemon loads.

Writes `beeg_config.json` with the published fields and `final_model.safetensors` in the packed
form, and copies the run's progress to `train_curves/`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from circuitd.engine.config import GPTConfig, parse_config
from circuitd.store.model_files import CONFIG_FILE, WEIGHT_FILES
from circuitd.store.packed import pack
from training import checkpoint, optimise
from training.model import Network

RUN_FILE = "run.json"
WEIGHTS_FILE = WEIGHT_FILES[0]


def published(config: GPTConfig) -> dict[str, object]:
    """The content of `beeg_config.json`."""
    fields: dict[str, object] = dataclasses.asdict(config)
    return {**fields, "afrac_loctypes": ",".join(config.afrac_loctypes)}


def load_run(run: Path) -> Network:
    """The network of a run folder, with the weights of its last checkpoint."""
    config, _ = parse_config(json.loads((run / RUN_FILE).read_text())["config"])
    network = Network(config)
    checkpoint.load_weights(run / "checkpoint.safetensors", network)
    return network.eval()


def last_options(run: Path) -> dict[str, Any]:
    """The options of a run's last sitting."""
    return json.loads((run / RUN_FILE).read_text())["sittings"][-1]["options"]


def write(network: Network, folder: Path) -> None:
    """Write the model directory `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(published(network.config), indent=1)
    (folder / CONFIG_FILE).write_text(config + "\n")
    # Masking a negative weight leaves -0.0, which packing would have to keep; adding 0.0 ends it.
    tensors = {k: v.detach().numpy() + np.float32(0) for k, v in network.named_parameters()}
    stored, metadata = pack(tensors)
    save_file(stored, folder / WEIGHTS_FILE, metadata=metadata)
    (folder / WEIGHTS_FILE).chmod(0o644)


def main() -> None:
    """Export one run; with `--interim` an unfinished one, projected to its final sparsity."""
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--interim", action="store_true")
    options = parser.parse_args()
    run: Path = options.work / "runs" / options.name
    network = load_run(run)
    if options.interim:
        wanted = last_options(run)
        optimise.project(network, wanted["block_fraction"], wanted["embed_fraction"])
    write(network, options.data / "models" / options.name)
    curves = options.data / "train_curves" / options.name
    curves.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "progress.json", curves / "progress.json")


if __name__ == "__main__":
    main()
