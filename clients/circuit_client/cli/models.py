"""`circuit models`."""

import json
import os
import textwrap
from pathlib import Path

import click

from circuit_client.cli.arguments import ModelName
from circuit_client.cli.command import command, group
from circuit_client.cli.model_files import embedding, training
from circuit_client.cli.output import Output, sentence
from circuit_client.cli.status import resident_table
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, facts, nbytes, table
from circuit_client.sync import Connection
from circuit_protocol.replies import ModelConverted, ModelDescription, ModelSummary, ResidentReport

_model = click.argument("model", type=ModelName(), required=False)


@group("models")
def models() -> None:
    """What models there are, and which are resident."""


@command("list", examples=["circuit models list", "circuit models list --json"])
def list_models(c: Connection, out: Output) -> None:
    """All models in the artefact roots."""
    found = c.models.list()
    out.give({"models": found}, lambda: _list_lines(found, out))


def _list_lines(found: tuple[ModelSummary, ...], out: Output) -> list[Line]:
    if not found:
        return sentence("no models: `circuitd doctor` shows where they are looked for")
    columns = [
        Column("model", shrink=True),
        Column("layers", "right"),
        Column("width", "right"),
        Column("nodes", "right"),
        Column("on disk", "right"),
        Column("", shrink=True),
    ]
    rows = []
    for m in found:
        notes = [w for w, on in (("default", m.default), ("resident", m.resident)) if on]
        remark = Span(m.broken, color="bad") if m.broken else Span(", ".join(notes), color="note")
        rows.append(
            (
                m.name,
                str(m.n_layer),
                str(m.d_model),
                f"{m.n_nodes:,}",
                nbytes(m.nbytes_on_disk),
                remark,
            )
        )
    return table(columns, rows, width_max=out.columns)


@command(
    "describe",
    examples=["circuit models describe", "circuit models describe csp_yolo1 --sites --matrices"],
)
@_model
@click.option("--sites", "with_sites", is_flag=True, help="List the sites, too.")
@click.option("--matrices", "with_matrices", is_flag=True, help="List the weights, too.")
@click.option("--card", "with_card", is_flag=True, help="Print the model card.")
def describe(
    c: Connection,
    out: Output,
    model: str | None,
    with_sites: bool,
    with_matrices: bool,
    with_card: bool,
) -> None:
    """Configuration, sizes, sparsity and sites of a model."""
    d = c.models.describe(model)
    out.give(d, lambda: _describe_lines(d, out, with_sites, with_matrices, with_card))


def _describe_lines(
    d: ModelDescription, out: Output, with_sites: bool, with_matrices: bool, with_card: bool
) -> list[Line]:
    lines = facts(
        [
            ("model", Span(d.model, bold=True)),
            ("path", d.path),
            ("hash", d.model_hash),
            (
                "weights",
                f"{d.n_parameters:,}, of which {d.n_nonzeros:,} are not zero "
                f"({d.block_density:.2%} of the blocks')",
            ),
            ("nodes", f"{d.n_nodes:,}"),
            ("on disk", nbytes(d.nbytes_on_disk)),
            *(("note", note) for note in d.notes),
        ]
    )
    lines += _config_lines(d.config_json, out)
    if with_sites:
        rows = [
            (s.site, str(s.width), str(s.n_heads or ""), "node site" if s.is_node_site else "")
            for s in d.sites
        ]
        columns = [Column("site"), Column("width", "right"), Column("heads", "right"), Column("")]
        lines += [(), *table(columns, rows, width_max=out.columns)]
    if with_matrices:
        rows = []
        for m in d.matrices:
            size = 1
            for n in m.shape:
                size *= n
            share = f"{m.nonzeros / size:.2%}" if size else ""
            rows.append((m.name, "x".join(map(str, m.shape)), f"{m.nonzeros:,}", share))
        columns = [
            Column("weight", shrink=True),
            Column("shape"),
            Column("not zero", "right"),
            Column("", "right"),
        ]
        lines += [(), *table(columns, rows, width_max=out.columns)]
    if with_card:
        lines += [(), *((Span(line),) for line in (d.card or "no model card").splitlines())]
    return lines


def _config_lines(config_json: str, out: Output) -> list[Line]:
    """The configuration as `name value` in running text, as wide as the terminal."""
    fields = [f"{name} {json.dumps(value)}" for name, value in json.loads(config_json).items()]
    indent = " " * len("weights  ")
    text = textwrap.fill(
        ", ".join(fields),
        width=max(40, out.columns),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
    )
    first, *rest = text.splitlines() or [indent]
    return [
        (Span("config   ", color="dim"), Span(first.removeprefix(indent))),
        *((Span(line),) for line in rest),
    ]


@command(
    "load",
    examples=["circuit models load", "circuit models load ./my_model --device cuda:1 --pin"],
)
@_model
@click.option("--device", metavar="DEVICE", help="Like cpu or cuda:1; else where there is room.")
@click.option("--pin", is_flag=True, help="Exempt it from eviction.")
@click.option("--keep-alive", "keep_alive_s", type=float, metavar="S",
              help="Seconds it stays without use; negative: for ever.")  # fmt: skip
@click.option("--sha256", metavar="HEX", help="Refuse weights with another checksum.")
def load(
    c: Connection,
    out: Output,
    model: str | None,
    device: str | None,
    pin: bool,
    keep_alive_s: float | None,
    sha256: str | None,
) -> None:
    """Make a model resident."""
    report = c.models.load(
        model,
        device=device,
        pin=pin,
        sha256=sha256,
        keep_alive_s=keep_alive_s,
        progress=out.progress,
    )
    out.give(report, lambda: _resident_lines(report, out))


def _resident_lines(report: ResidentReport, out: Output) -> list[Line]:
    if not report.models:
        return sentence("no model is resident")
    used = f"{nbytes(report.used_nbytes)} of {nbytes(report.budget_nbytes)} used"
    notes: list[Line] = [(Span(note, color="note"),) for note in report.notes]
    return [*resident_table(report.models, out), (Span(used, color="dim"),), *notes]


@command("unload", examples=["circuit models unload csp_yolo1"])
@_model
def unload(c: Connection, out: Output, model: str | None) -> None:
    """Free a resident model now."""
    changed = c.models.unload(model)
    out.give(
        {"changed": changed},
        lambda: sentence("unloaded" if changed else "it was not resident"),
    )


@command("pin", examples=["circuit models pin csp_yolo1", "circuit models pin csp_yolo1 --off"])
@_model
@click.option("--off", is_flag=True, help="Undo it.")
def pin(c: Connection, out: Output, model: str | None, off: bool) -> None:
    """Exempt a resident model from eviction."""
    changed = c.models.pin(model, pinned=not off)
    out.give(
        {"pinned": not off, "changed": changed},
        lambda: sentence("no longer pinned" if off else "pinned"),
    )


@command("ps", examples=["circuit models ps"])
def ps(c: Connection, out: Output) -> None:
    """What is resident, where, how large and until when."""
    report = c.models.ps()
    out.give(report, lambda: _resident_lines(report, out))


_force = click.option("--force", is_flag=True, help="Replace the model that is there.")


@command(
    "pack",
    examples=["circuit models pack csp_yolo2 csp_yolo2-packed", "circuit models pack ./m ./packed"],
)
@click.argument("model", type=ModelName())
@click.argument("dest")
@_force
def pack(c: Connection, out: Output, model: str, dest: str, force: bool) -> None:
    """Write a model with only its nonzeros: a name, or a path on the daemon's machine.

    Every bit and the model hash stay: circuits carry over.
    """
    found = c.models.pack(model, to=_destination(dest), overwrite=force, progress=out.progress)
    out.give(found, lambda: _converted_lines(found))


@command("unpack", examples=["circuit models unpack csp_yolo2-packed ./plain"])
@click.argument("model", type=ModelName())
@click.argument("dest")
@_force
def unpack(c: Connection, out: Output, model: str, dest: str, force: bool) -> None:
    """Write a packed model with all its zeros, as plain safetensors."""
    found = c.models.unpack(model, to=_destination(dest), overwrite=force, progress=out.progress)
    out.give(found, lambda: _converted_lines(found))


def _destination(dest: str) -> str:
    """A path is meant from here, whatever directory the daemon runs in."""
    is_path = os.sep in dest or dest.startswith((".", "~"))
    return str(Path(dest).expanduser().absolute()) if is_path else dest


def _converted_lines(found: ModelConverted) -> list[Line]:
    change = _change(found.nbytes_after / max(found.nbytes_before, 1))
    sizes = f"{nbytes(found.nbytes_before)} to {nbytes(found.nbytes_after)}, {change}"
    return facts([("path", found.path), ("hash", found.model_hash), ("weights", sizes)])


def _change(ratio: float) -> str:
    if 0.95 < ratio < 1.05:
        return "as large as before"
    return f"{ratio:.1f} times larger" if ratio > 1 else f"{1 / ratio:.1f} times smaller"


for _command in (list_models, describe, embedding, training, load, unload, pin, ps, pack, unpack):
    models.add_command(_command)
