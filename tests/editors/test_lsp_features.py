"""Every feature of the language server, over stdio, on the shipped model."""

import math

import pytest
from lsprotocol import types

from lsp_client import Editor, at

SOURCE = "def f(x):\n    return x + 1\n\nfor i in range(10):\n    print('hi', i)\n"


def identifier(uri: str) -> types.TextDocumentIdentifier:
    return types.TextDocumentIdentifier(uri=uri)


def lsp_range(*numbers: int) -> types.Range:
    a, b, c, d = numbers
    return types.Range(
        start=types.Position(line=a, character=b), end=types.Position(line=c, character=d)
    )


def is_blank(token: dict) -> bool:
    """Whether a token of SOURCE is nothing but a line end, which no mark can show."""
    start, end = token["range"]["start"], token["range"]["end"]
    line = SOURCE.split("\n")[start["line"]]
    return end["line"] > start["line"] and start["character"] == len(line) and not end["character"]


async def run(editor: Editor, command: str, argument: dict) -> dict:
    return await editor.within(
        editor.client.workspace_execute_command_async(
            types.ExecuteCommandParams(command=command, arguments=[argument])
        )
    )


async def hover(editor: Editor, uri: str, line: int, character: int) -> types.Hover | None:
    place = types.Position(line=line, character=character)
    params = types.HoverParams(text_document=identifier(uri), position=place)
    return await editor.within(editor.client.text_document_hover_async(params))


async def actions(editor: Editor, uri: str, place: types.Range, diagnostics=()) -> list[dict]:
    context = types.CodeActionContext(diagnostics=list(diagnostics))
    params = types.CodeActionParams(text_document=identifier(uri), range=place, context=context)
    return await editor.within(editor.client.text_document_code_action_async(params))


async def lenses(editor: Editor, uri: str) -> list[types.Command]:
    params = types.CodeLensParams(text_document=identifier(uri))
    found = await editor.within(editor.client.text_document_code_lens_async(params))
    return [lens.command for lens in found or []]


async def a_circuit(editor: Editor, task: str = "for_while") -> str:
    listed = await editor.ask("circuit/circuits/list", {"task": task})
    return min(listed["circuits"], key=lambda c: c["k"])["id"]


async def test_a_document_nobody_asked_about_is_left_alone(daemon, editors):
    editor = await editors(daemon, options={"session": "off"})
    await editor.connected()
    uri = editor.open(SOURCE)
    place = lsp_range(0, 0, 9, 0)
    assert await hover(editor, uri, 1, 11) is None
    assert await actions(editor, uri, lsp_range(3, 5, 3, 5)) == []
    assert await lenses(editor, uri) == []
    hints = types.InlayHintParams(text_document=identifier(uri), range=place)
    assert await editor.client.text_document_inlay_hint_async(hints) is None
    tokens = types.SemanticTokensParams(text_document=identifier(uri))
    full = await editor.client.text_document_semantic_tokens_full_async(tokens)
    assert list(full.data) == []
    assert (await editor.ask("circuit/document/heat", {"uri": uri}))["state"] == "off"


async def test_heat_hover_hints_marks_and_lenses(daemon, editors):
    editor = await editors(daemon, options={"session": "marks"})
    await editor.connected()
    uri = editor.open(SOURCE)
    assert (await run(editor, "circuit.heat", {"uri": uri}))["state"] == "waiting"
    heat = await editor.fresh(uri)
    values = [t["value"] for t in heat["tokens"]]
    assert values[0] is None
    assert math.isclose(heat["meanLoss"], sum(values[1:]) / len(values[1:]), rel_tol=1e-6)
    assert heat["isWhole"]
    assert heat["covered"]["end"] == at(5, 0)

    shown = await hover(editor, uri, 1, 11)
    assert shown is not None
    assert "`␣x`" in shown.contents.value
    assert "nats" in shown.contents.value
    assert shown.range == lsp_range(1, 10, 1, 12)

    tokens = await editor.client.text_document_semantic_tokens_full_async(
        types.SemanticTokensParams(text_document=identifier(uri))
    )
    kinds = [t["level"] - 1 for t in heat["tokens"] if t["level"] and not is_blank(t)]
    assert list(tokens.data[3::5]) == kinds
    legend = editor.result.capabilities.semantic_tokens_provider.legend
    assert legend.token_types[0] == "circuitHeat1"

    asked = types.InlayHintParams(text_document=identifier(uri), range=lsp_range(0, 0, 1, 0))
    assert await editor.client.text_document_inlay_hint_async(asked) is None
    await run(editor, "circuit.hints", {"on": True})
    await editor.heard(types.WORKSPACE_INLAY_HINT_REFRESH)
    hints = await editor.client.text_document_inlay_hint_async(asked)
    assert {hint.position.line for hint in hints} <= {0, 1}
    assert all(float(hint.label) > 0 for hint in hints)

    [summary, numbers] = await lenses(editor, uri)
    assert "nats per token" in summary.title
    assert numbers.title == "hide numbers"
    await run(editor, summary.command, summary.arguments[0])
    await editor.heard("circuit/heat", lambda h: h["state"] == "off")
    assert await hover(editor, uri, 1, 11) is None


async def test_highlights_where_they_are_wanted(daemon, editors):
    editor = await editors(
        daemon, options={"session": "h", "documentHighlights": True, "enabled": True}
    )
    uri = editor.open(SOURCE)
    await editor.fresh(uri)
    params = types.DocumentHighlightParams(
        text_document=identifier(uri), position=types.Position(line=1, character=3)
    )
    found = await editor.client.text_document_document_highlight_async(params)
    assert {h.kind for h in found} == set(types.DocumentHighlightKind)


@pytest.mark.parametrize(
    ("encoding", "units"), [("utf-8", (3, 4)), ("utf-16", (1, 2)), ("utf-32", (1, 1))]
)
async def test_places_are_in_the_agreed_units_and_code_points_whole(
    daemon, editors, encoding, units
):
    editor = await editors(
        daemon,
        options={"session": "u", "enabled": True},
        encodings=[types.PositionEncodingKind(encoding)],
    )
    uri = editor.open("s = '漢🙂'\r\nt = 1\r\n")
    heat = await editor.fresh(uri)
    assert editor.result.capabilities.position_encoding == encoding
    cjk, emoji = units
    ends = {(t["range"]["end"]["line"], t["range"]["end"]["character"]) for t in heat["tokens"]}
    places = {5: "'", 5 + cjk: "漢", 5 + cjk + emoji: "🙂"}
    assert (0, 5 + cjk) in ends
    assert (0, 5 + cjk + emoji) in ends
    inside = [c for line, c in ends if line == 0 and 5 < c < 5 + cjk + emoji]
    assert set(inside) <= set(places), "no range ends within a character"
    shared = [t for t in heat["tokens"] if t["range"]["start"] == at(0, 5)]
    assert [t["nTokens"] for t in shared] == [3], "three tokens of one byte each, shown as one"
    detail = await editor.ask("circuit/document/token", {"uri": uri, "position": at(0, 5)})
    assert len(detail["tokens"]) == 3
    assert detail["tokens"][0]["text"] == "\\xe6"
    assert heat["covered"]["end"] == at(2, 0), "CRLF is one line end"


async def test_explanations_ablations_and_their_actions(daemon, editors):
    editor = await editors(daemon, options={"session": "explain"})
    await editor.connected()
    circuit = await a_circuit(editor)
    uri = editor.open(SOURCE)
    await run(editor, "circuit.select", {"circuit": circuit, "task": "for_while"})
    await run(editor, "circuit.heat", {"uri": uri})
    await editor.fresh(uri)
    shown = await hover(editor, uri, 3, 6)
    assert shown is not None
    assert "without it" in shown.contents.value

    offered = await actions(editor, uri, lsp_range(3, 6, 3, 6))
    titles = [action["title"] for action in offered]
    assert titles[0].startswith("Explain ␣in")
    assert sum(title.startswith("Why ␣in and not ") for title in titles) == 2
    assert "Find a circuit of for_while" in titles
    for action in offered[:4]:
        result = await run(editor, action["command"]["command"], action["command"]["arguments"][0])
        told = await editor.heard(
            types.WINDOW_SHOW_MESSAGE, lambda m, r=result: m.message == r["sentence"]
        )
        assert told.type == types.MessageType.Info

    place = {"uri": uri, "position": at(3, 6)}
    whole = await editor.ask("circuit/document/explain", place)
    assert [abs(n["delta"]) for n in whole["nodes"]] == sorted(
        (abs(n["delta"]) for n in whole["nodes"]), reverse=True
    )
    two = await editor.ask("circuit/document/explain", {**place, "versus": ":"})
    assert two["versus"] == ":"
    assert all(n["logitChange"] is not None for n in two["nodes"])
    assert two["lossModel"] < whole["lossModel"], "of two answers the right one is likelier"
    # The same as the loss without that node, computed by another way: the effect on the model.
    effect = await editor.ask(
        "circuit/document/ablate", {**place, "nodes": [{"site": "final_resid", "channel": 198}]}
    )
    assert math.isclose(effect["lossBefore"], whole["lossModel"], rel_tol=1e-4)
    assert effect["lossAfter"] != effect["lossBefore"]


async def test_without_a_chosen_circuit_the_one_with_the_least_loss_explains(daemon, editors):
    editor = await editors(daemon, options={
        "session": "newcomer", "enabled": True, "sayResults": False,
    })  # fmt: skip
    uri = editor.open(SOURCE)
    await editor.fresh(uri)
    first, *_ = await actions(editor, uri, lsp_range(3, 6, 3, 6))
    assert first["title"].startswith("Explain ␣in")
    explained = await run(editor, "circuit.explain", first["command"]["arguments"][0])
    model = (await editor.ask("circuit/status"))["model"]
    listed = (await editor.ask("circuit/circuits/list", {"model": model}))["circuits"]
    best = min(listed, key=lambda c: c["loss"])
    assert f"of the circuit of {best['task']}." in explained["sentence"]
    assert types.WINDOW_SHOW_MESSAGE not in editor.told, "this editor shows results by itself"


async def test_a_selection_becomes_a_side_and_two_sides_a_pair(daemon, editors, tmp_path):
    editor = await editors(daemon, options={"session": "pairs", "enabled": True})
    editor.client.workspace_did_change_workspace_folders(
        types.DidChangeWorkspaceFoldersParams(
            event=types.WorkspaceFoldersChangeEvent(
                added=[types.WorkspaceFolder(uri=tmp_path.as_uri(), name="w")], removed=[]
            )
        )
    )
    uri = editor.open("for x in y\nwhile x:\n")
    await editor.fresh(uri)
    first = (await actions(editor, uri, lsp_range(0, 5, 0, 8)))[-1]
    assert "one side" in first["title"]
    taken = await run(editor, "circuit.takeSide", first["command"]["arguments"][0])
    assert (taken["target"], taken["file"]) == (" in", None)
    with pytest.raises(Exception, match="same targets"):
        await run(editor, "circuit.takeSide", first["command"]["arguments"][0])
    second = {"uri": uri, "range": {"start": at(0, 8), "end": at(0, 10)}}
    written = await run(editor, "circuit.takeSide", second)
    assert written["file"] == str(tmp_path / "circuit_pairs.jsonl")
    edit = await editor.heard(types.WORKSPACE_APPLY_EDIT)
    assert '"targets":[" in"," y"]' in edit.edit.document_changes[1].edits[0].new_text


TASK = (
    '{"description": "mine"}\n'
    '{"prompts": ["for x", "while x"], "targets": [" in", ":"]}\n'
    '{"prompts": ["for y", "while y"], "targets": [" range(", ":"]}\n'
)


async def test_task_files_have_lenses_symbols_and_diagnostics(daemon, editors):
    editor = await editors(daemon, options={"session": "tasks"})
    await editor.connected()
    uri = editor.open(TASK, uri="file:///project/for_while.jsonl", language="json")
    told = await editor.heard(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS, lambda p: p.diagnostics)
    [one] = told.diagnostics
    assert "single token" in one.message
    assert one.range == lsp_range(2, 46, 2, 55)
    symbols = await editor.client.text_document_document_symbol_async(
        types.DocumentSymbolParams(text_document=identifier(uri))
    )
    assert len(symbols) == 2
    found = await lenses(editor, uri)
    titles = [lens.title for lens in found]
    assert titles[:2] == ["run on csd-py-sparse", "circuit of 70 nodes"]
    shown = await run(editor, found[1].command, found[1].arguments[0])
    assert shown["lines"][0].startswith("for_while in csd-py-sparse")
    for title in ("run on csd-py-sparse", "ablate all else", "run", "with only 70 nodes"):
        lens = found[titles.index(title)]
        result = await run(editor, lens.command, lens.arguments[0])
        assert result["sentence"]
    await editor.heard(types.WINDOW_SHOW_MESSAGE, lambda m: "nats per side" in m.message)


SCRIPT = """from circuit_client import connect, iv
with connect() as c:
    c.forward(text="x", interventions=[iv.zero("2.mlp.postact", channels=[1])])
    c.ablate(model="csd-py-spars", task="for_whil", nodes="2.mlp.post_act[5000]")
"""


async def test_scripts_have_diagnostics_fixes_and_completion(daemon, editors):
    editor = await editors(daemon, options={"session": "scripts"})
    await editor.connected()
    uri = editor.open(SCRIPT, uri="file:///project/s.py")
    told = await editor.heard(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS, lambda p: p.diagnostics)
    messages = sorted(d.message for d in told.diagnostics)
    assert [m.split(";")[0] for m in messages] == [
        "2.mlp.post_act of csd-py-sparse has channels 0 to 1023, and no 5000",
        "csd-py-sparse has no site of this name",
        "no model has this name",
        "no task has this name",
    ]
    site = next(d for d in told.diagnostics if "no site" in d.message)
    offered = await actions(editor, uri, site.range, [site])
    assert offered[0]["title"] == "Change to `2.mlp.post_act`"
    assert offered[0]["edit"]["changes"][uri][0]["newText"] == "2.mlp.post_act"

    editor.change(uri, SCRIPT.replace("postact", "post_act") + '    c.hook(sites="2.ml')
    params = types.CompletionParams(
        text_document=identifier(uri), position=types.Position(line=4, character=22)
    )
    listed = await editor.client.text_document_completion_async(params)
    item = next(i for i in listed.items if i.label == "2.mlp.post_act")
    assert item.text_edit.range == lsp_range(4, 18, 4, 22)
    assert item.detail == "1024 channels"
    editor.forget()
    editor.change(uri, SCRIPT.split("    c.forward")[0] + "    pass\n")
    await editor.heard(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS, lambda p: not p.diagnostics)
