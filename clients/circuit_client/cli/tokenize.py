"""`circuit tokenize`."""

from circuit_client.cli.arguments import model_option, need_prompts, prompt_arguments, read_prompts
from circuit_client.cli.command import command
from circuit_client.cli.output import Output
from circuit_client.cli.tokens import quoted
from circuit_client.render.style import Line, Span
from circuit_client.render.table import Column, table
from circuit_client.sync import Connection


@command("tokenize", examples=["circuit tokenize 'x += 1'", "circuit tokenize -f script.py --json"])
@prompt_arguments
@model_option
def tokenize(
    c: Connection,
    out: Output,
    texts: tuple[str, ...],
    files: tuple[str, ...],
    tokens: tuple[str, ...],
    model: str | None,
) -> None:
    """Show the tokens of a text."""
    prompts = need_prompts(read_prompts(texts, files, tokens))
    if "tokens" in prompts:
        pieces = c.detokenize(prompts["tokens"], model)
        out.give({"texts": [p.text for p in pieces]}, lambda: [(Span(p.text),) for p in pieces])
        return
    rows = c.tokenize(prompts["text"], model)

    def lines() -> list[Line]:
        cells = [(str(t.offset), str(t.id), quoted(t.data, out)) for row in rows for t in row]
        columns = [Column("byte", "right"), Column("id", "right"), Column("token")]
        return table(columns, cells, width_max=out.columns)

    out.give({"rows": rows}, lines)
