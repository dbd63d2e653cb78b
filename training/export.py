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

import numpy as np
from safetensors.numpy import save_file

from circuitd.engine.config import GPTConfig
from circuitd.store.packed import pack
from training import checkpoint, optimise
from training.model import Network


def published(config: GPTConfig) -> dict[str, object]:
    """The content of `beeg_config.json`."""
    fields: dict[str, object] = dataclasses.asdict(config)
    return {**fields, "afrac_loctypes": ",".join(config.afrac_loctypes)}


def load_run(run: Path) -> Network:
    """The network of a run folder, with the weights of its last checkpoint."""
    fields = json.loads((run / "run.json").read_text())["config"]
    known = {field.name for field in dataclasses.fields(GPTConfig)}
    if isinstance(loctypes := fields["afrac_loctypes"], str):
        fields["afrac_loctypes"] = loctypes.split(",")
    fields["afrac_loctypes"] = tuple(fields["afrac_loctypes"])
    network = Network(GPTConfig(**{k: v for k, v in fields.items() if k in known}))
    checkpoint.load_weights(run / "checkpoint.safetensors", network)
    return network.eval()


def write(network: Network, folder: Path) -> None:
    """Write the model directory `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = json.dumps(published(network.config), indent=1)
    (folder / "beeg_config.json").write_text(config + "\n")
    # Masking a negative weight leaves -0.0, which packing would have to keep; adding 0.0 ends it.
    tensors = {k: v.detach().numpy() + np.float32(0) for k, v in network.named_parameters()}
    stored, metadata = pack(tensors)
    weights = folder / "final_model.safetensors"
    save_file(stored, weights, metadata=metadata)
    weights.chmod(0o644)


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
        wanted = json.loads((run / "run.json").read_text())["options"]
        optimise.project(network, wanted["block_fraction"], wanted["embed_fraction"])
    write(network, options.data / "models" / options.name)
    curves = options.data / "train_curves" / options.name
    curves.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "progress.json", curves / "progress.json")


if __name__ == "__main__":
    main()
