"""`circuit circuits export | import`."""

import sys
from pathlib import Path
from typing import Any

import click

from circuit_client.as_json import public
from circuit_client.cli.arguments import CircuitName, TaskName, model_option
from circuit_client.cli.circuit_drawing import head_width
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.export.formats import TEXT_FORMATS, write
from circuit_client.render.circuit_tables import fact_lines
from circuit_client.sync import Connection
from circuit_protocol.circuit_replies import CircuitShown

_SUFFIXES = {".json": "json", ".csv": "csv", ".graphml": "graphml", ".dot": "dot", ".gv": "dot",
             ".svg": "svg", ".html": "html", ".htm": "html", ".pt": "viz_data"}  # fmt: skip


@command(
    "export",
    examples=[
        "circuit circuits export 3f9a21 -o quote.html",
        "circuit circuits export 3f9a21 --format dot | dot -Tpdf > quote.pdf",
        "circuit circuits export 3f9a21 --format csv -o quote.csv",
        "circuit circuits export 3f9a21 --format viz_data -o viz_data.pt",
    ],
)
@click.argument("circuit", type=CircuitName())
@click.option("--format", "form", type=click.Choice([*TEXT_FORMATS, "viz_data"]),
              help="Else by the file's ending, else json.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="Else stdout.")
@click.option("--task-pairs", type=int, default=16, show_default=True,
              help="Pairs of the task in a viz_data.pt.")  # fmt: skip
@model_option
def export(
    c: Connection,
    out: Output,
    circuit: str,
    form: Any,
    output: str | None,
    task_pairs: int,
    model: str | None,
) -> None:
    """Write a circuit as data, as a graph, as a picture, or for the published viewer.

    With -o, csv is two files: FILE with the nodes, and one with .edges before its ending.
    """
    file = None if output in (None, "-") else Path(str(output))
    form = form or _form_of(file)
    shown = c.circuits.show(circuit, model=model)
    if form == "viz_data":
        data = c.circuits.export_viz_data(
            shown, model, n_task_pairs=task_pairs, progress=out.progress
        )
        out.clear_progress()
        if file is None:
            if sys.stdout.isatty():
                raise click.UsageError("A viz_data.pt is no text: give -o FILE, or a pipe.")
            sys.stdout.buffer.write(data.data)
            return
        _report(out, shown, form, [data.save(file)])
        return
    d_head = head_width(c, shown)
    if file is None:
        out.stdout.write(write(shown, form, d_head=d_head))
        return
    _report(out, shown, form, _write_files(file, shown, form, d_head))


def _form_of(file: Path | None) -> str:
    """The format a file's ending asks for. Raises UsageError for an ending of no format."""
    if file is None or not file.suffix:
        return "json"
    form = _SUFFIXES.get(file.suffix.lower())
    if form is None:
        known = ", ".join(_SUFFIXES)
        raise click.UsageError(f"No format has the ending {file.suffix} (there are {known}): "
                               "give --format.")  # fmt: skip
    return form


def _write_files(file: Path, shown: CircuitShown, form: Any, d_head: int | None) -> list[Path]:
    if form != "csv":
        file.write_text(write(shown, form, d_head=d_head), encoding="utf-8")
        return [file]
    from circuit_client.export.documents import edges_csv, nodes_csv

    edges = file.with_name(f"{file.stem}.edges{file.suffix}")
    file.write_text(nodes_csv(shown, d_head=d_head), encoding="utf-8")
    edges.write_text(edges_csv(shown, d_head=d_head), encoding="utf-8")
    return [file, edges]


def _report(out: Output, shown: CircuitShown, form: str, files: list[Path]) -> None:
    if out.json:
        out.document({"circuit": shown.summary.id, "format": form, "files": list(map(str, files))})
    else:
        out.note(f"wrote {' and '.join(map(str, files))}")


@command(
    "import",
    examples=[
        "circuit circuits import quote.json",
        "circuit circuits import viz_data.pt --task single_double_quote --sweep published",
    ],
)
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("-t", "--task", type=TaskName(), metavar="TASK",
              help="Whose circuit a viz_data.pt is: the file does not say.")  # fmt: skip
@click.option("--sweep", default="imported", show_default=True, help="Where it is put.")
@click.option("--note", default="", help="Where it comes from, in words.")
@model_option
def import_(
    c: Connection,
    out: Output,
    file: str,
    task: str | None,
    sweep: str,
    note: str,
    model: str | None,
) -> None:
    """Take in a circuit exported as JSON, or a published viz_data.pt."""
    shown = c.circuits.import_file(
        file, model, task=task, sweep=sweep, note=note, progress=out.progress
    )
    out.give(public(shown), lambda: fact_lines(shown))
