"""The one table of keys: bindings, footer, help, command palette and documentation come from it.

Each entry has an id, by which a file of the user's can give it other keys. No key here is one that
terminals or tmux keep for themselves (no Alt, no Ctrl with B, C, H, I, J, M, Q, S or Z).
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from textual.binding import Binding

from circuit_protocol.errors import InvalidRequest, NotFound


@dataclass(frozen=True, slots=True)
class Key:
    """One action: where it works, which keys call it, and what it is called."""

    id: str
    keys: str
    action: str
    label: str
    #: A sentence for the help and the palette.
    help: str
    #: Whether the footer shows it.
    footer: bool = True

    @property
    def where(self) -> str:
        """The screen or widget it belongs to."""
        return self.id.partition(".")[0]


#: What the places are called in the help, in its order.
PLACES: Final[dict[str, str]] = {
    "app": "Everywhere",
    "page": "Panes",
    "catalogue": "Catalogue",
    "circuit": "Circuit",
    "operate": "Switching parts off and on",
    "picture": "Pictures",
    "node": "Node",
    "compare": "Compare",
    "text": "Text",
    "runs": "Runs",
    "card": "Card",
    "plots": "Plots",
    "channel": "Residual channel",
    "tokens": "Tokens",
    "plot": "Curves",
    "matrix": "Matrix",
    "passages": "Texts",
    "table": "Tables",
}

TABLE: Final[tuple[Key, ...]] = (
    Key("app.catalogue", "1,f1", "app.go('catalogue')", "catalogue",
        "Choose a model, a task and a circuit.", footer=False),
    Key("app.circuit", "2,f2", "app.go('circuit')", "circuit",
        "Read the chosen circuit and switch its parts off and on.", footer=False),
    Key("app.node", "3,f3", "app.go('node')", "node",
        "Read the selected node: where it is active, what it attends to.", footer=False),
    Key("app.compare", "5,f5", "app.go('compare')", "compare",
        "Two circuits, two models or two prompts side by side.", footer=False),
    Key("app.text", "4,f4", "app.go('text')", "text",
        "Try your own text: losses, predictions, where the circuit is active.", footer=False),
    Key("app.runs", "6,f6", "app.go('runs')", "runs",
        "Start a prune, a sweep or a verification; watch, cancel and find jobs.", footer=False),
    Key("app.card", "7,f7", "app.go('card')", "card",
        "Read the verdict on the circuit, and every control behind it.", footer=False),
    Key("app.plots", "8,f8", "app.go('plots')", "plots",
        "Loss against k, loss during pruning, settings, training metrics.", footer=False),
    Key("app.channel", "9,f9", "app.go('channel')", "channel",
        "Which tokens write the residual channel of the selected node.", footer=False),
    Key("app.help", "question_mark", "app.help", "help",
        "Say what this screen shows and which keys work here."),
    Key("app.palette", "ctrl+p", "app.command_palette", "commands",
        "Find any action by its name."),
    Key("app.jump", "ctrl+o", "app.jump", "jump",
        "Label every part of the screen with a letter; press it to go there.", footer=False),
    Key("app.cancel", "escape", "app.cancel", "back",
        "Cancel what is waited for; else go back to where you came from."),
    Key("app.copy", "y", "app.copy('text')", "copy",
        "Copy what this screen shows to the clipboard, through SSH as well (OSC 52).",
        footer=False),
    Key("app.copy_python", "P", "app.copy('python')", "copy as Python",
        "Copy the Python that asks for what is on screen.", footer=False),
    Key("app.copy_command", "C", "app.copy('command')", "copy as command",
        "Copy the shell command that asks for what is on screen.", footer=False),
    Key("app.export", "E", "app.export", "export",
        "Write what is on screen to a file: SVG, text or JSON."),
    Key("app.theme", "T", "app.next_theme", "theme",
        "The next theme: dark, light, high contrast.", footer=False),
    Key("app.repaint", "ctrl+l", "app.repaint", "repaint",
        "Paint the whole screen anew, if something else wrote on it.", footer=False),
    Key("app.start", "ctrl+r", "app.start_daemon", "start a daemon",
        "Start a daemon on this machine when none runs.", footer=False),
    Key("app.quit", "ctrl+d", "app.quit", "quit",
        "Leave. Jobs of the daemon go on."),
    Key("page.next", "tab", "next_pane(1)", "next pane",
        "The keys go to the next part of the pane, then to the next pane."),
    Key("page.previous", "shift+tab", "next_pane(-1)", "previous pane",
        "The keys go to the part or the pane before.", footer=False),
    Key("catalogue.search", "slash", "search", "search",
        "Show only what contains some words."),
    Key("catalogue.load", "l", "load", "load / unload",
        "Load the model into memory, or free it."),
    Key("catalogue.refresh", "r", "refresh_lists", "refresh",
        "Ask for the lists again.", footer=False),
    Key("circuit.matrix", "m", "show_view('matrix')", "matrix",
        "The whole circuit: layers down, sites across."),
    Key("circuit.graph", "g", "show_view('graph')", "graph",
        "The graph of the half block that the list of layers is at."),
    Key("circuit.edges", "e", "show_view('edges')", "edges", "The edges as a table."),
    Key("circuit.ego", "o", "show_view('ego')", "around",
        "What feeds the selected node and what it feeds, across layers."),
    Key("circuit.open_node", "enter", "open_node", "read node",
        "Read the selected node: text, heatmaps, attention.", footer=False),
    Key("circuit.less_edges", "greater_than_sign,full_stop", "threshold(1)", "fewer edges",
        "Show only edges that cost more when cut.", footer=False),
    Key("circuit.more_edges", "less_than_sign,comma", "threshold(-1)", "more edges",
        "Show weaker edges too.", footer=False),
    Key("circuit.measure", "i", "measure_parts", "measure",
        "Measure what each node and edge of this circuit is worth.", footer=False),
    Key("operate.toggle", "space", "switch", "off/on",
        "Switch the selected node (or edge) off, or on again."),
    Key("operate.head", "h", "switch_head", "head off/on",
        "Switch the whole head of the selected node off or on.", footer=False),
    Key("operate.half", "b", "switch_half", "block off/on",
        "Switch the half block of the selected node off or on.", footer=False),
    Key("operate.add", "A", "add_node", "add a node",
        "Have a node in the circuit that it does not keep: the selected one, or type which.",
        footer=False),
    Key("operate.kind", "K", "next_kind", "mean/zero/resample",
        "What is off is held at its mean, at zero, or at another prompt's value.", footer=False),
    Key("operate.undo", "u", "undo", "undo", "Take the last switching back."),
    Key("operate.redo", "U", "redo", "redo", "Do it again.", footer=False),
    Key("operate.mend", "M", "mend", "all on", "Switch everything on again.", footer=False),
    Key("operate.save", "s", "save", "save", "Save the circuit as it is switched, under a name."),
    Key("operate.example", "n", "example(1)", "next example",
        "Another pair of prompts of the task.", footer=False),
    Key("node.task", "t", "show_kind('task')", "task",
        "Its values on the task's prompts: class 1, class 2, and their difference."),
    Key("node.text", "x", "show_kind('text')", "text",
        "Pretraining text around its largest and smallest values."),
    Key("node.attention", "a", "show_kind('attention')", "attention",
        "Where its head attends."),
    Key("node.distribution", "d", "show_kind('distribution')", "distribution",
        "Quantiles and a histogram of its values."),
    Key("node.classes", "c", "next_class", "classes",
        "All, class 1, class 2, or the difference only."),
    Key("node.share", "v", "share", "channel's share",
        "The attention of the whole head, or what this channel has to do with it.", footer=False),
    Key("node.query_back", "left_square_bracket", "query(1)", "query before",
        "Attention from the token before.", footer=False),
    Key("node.query_on", "right_square_bracket", "query(-1)", "query after",
        "Attention from the token after.", footer=False),
    Key("node.zero", "z", "zero_centre", "zero-centre",
        "Colours on both sides of zero, or from zero up.", footer=False),
    Key("node.whole", "w", "whole_model", "whole model",
        "Its values in the whole model, or in the circuit alone.", footer=False),
    Key("node.previous", "p", "other_node(-1)", "node before",
        "The node before in the circuit.", footer=False),
    Key("node.next", "f", "other_node(1)", "node after",
        "The next node of the circuit.", footer=False),
    Key("compare.what", "t", "what", "circuits / prompts",
        "Compare two circuits, or two prompts in one circuit."),
    Key("passages.left", "left", "step(-1)", "token before", "The token before.", footer=False),
    Key("passages.right", "right", "step(1)", "token after", "The next token.", footer=False),
    Key("passages.up", "up", "step_line(-1)", "line above", "A line up.", footer=False),
    Key("passages.down", "down", "step_line(1)", "line below", "A line down.", footer=False),
    Key("passages.page_up", "pageup", "page(-1)", "page up", "A screenful up.", footer=False),
    Key("passages.page_down", "pagedown", "page(1)", "page down", "A screenful down.",
        footer=False),
    Key("picture.left", "left", "step(-1, 0)", "left", "To the next node.", footer=False),
    Key("picture.right", "right", "step(1, 0)", "right", "To the next node.", footer=False),
    Key("picture.up", "up", "step(0, -1)", "up", "To the next node.", footer=False),
    Key("picture.down", "down", "step(0, 1)", "down", "To the next node.", footer=False),
    Key("picture.zoom_in", "plus", "zoom(1)", "closer", "Magnify.", footer=False),
    Key("picture.zoom_out", "minus", "zoom(-1)", "further", "See more.", footer=False),
    Key("picture.fit", "equals_sign", "fit", "fit", "See all of it.", footer=False),
    Key("picture.pan_left", "shift+left", "pan(-8, 0)", "pan", "Move the view.", footer=False),
    Key("picture.pan_right", "shift+right", "pan(8, 0)", "pan", "Move the view.", footer=False),
    Key("picture.pan_up", "shift+up", "pan(0, -4)", "pan", "Move the view.", footer=False),
    Key("picture.pan_down", "shift+down", "pan(0, 4)", "pan", "Move the view.", footer=False),
    Key("matrix.left", "left", "step(0, -1)", "left", "The site before.", footer=False),
    Key("matrix.right", "right", "step(0, 1)", "right", "The next site.", footer=False),
    Key("matrix.up", "up", "step(-1, 0)", "up", "The layer above.", footer=False),
    Key("matrix.down", "down", "step(1, 0)", "down", "The layer below.", footer=False),
    Key("matrix.choose", "enter", "choose", "graph", "The graph of this half block."),
    Key("tokens.left", "left", "step(-1)", "token before", "The token before.", footer=False),
    Key("tokens.right", "right", "step(1)", "next token", "The next token.", footer=False),
    Key("tokens.up", "up", "step_line(-1)", "line above", "A line up.", footer=False),
    Key("tokens.down", "down", "step_line(1)", "line below", "A line down.", footer=False),
    Key("tokens.first", "home", "step(-100000)", "first", "The first token.", footer=False),
    Key("tokens.last", "end", "step(100000)", "last", "The last token.", footer=False),
    Key("tokens.zero", "z", "zero_centred", "zero-centred",
        "Colours around zero, or from zero to the largest.", footer=False),
    Key("plot.left", "left", "step(-1)", "left", "Read the values at the point before.",
        footer=False),
    Key("plot.right", "right", "step(1)", "right", "Read the values at the next point.",
        footer=False),
    Key("plot.first", "home", "step(-100000)", "first", "To the first point.", footer=False),
    Key("plot.last", "end", "step(100000)", "last", "To the last point.", footer=False),
    Key("plot.log_x", "l", "toggle_log('x')", "log x", "The axis across by powers or evenly."),
    Key("plot.log_y", "L", "toggle_log('y')", "log y", "The axis upward by powers or evenly."),
    Key("text.mode", "m", "next_mode(1)", "colours",
        "Colours: the model's loss, the circuit's, their difference, the selected node."),
    Key("text.why", "w", "why", "why this token",
        "Why the token that follows and not another: what each node of the circuit adds."),
    Key("text.open", "o", "open_file", "open a file", "Read the text from a file."),
    Key("text.example", "x", "make_example", "make an example",
        "Make the text up to the cursor a prompt of a task example; twice make a pair."),
    Key("text.edit", "i,e", "edit", "edit", "The keys go to the text.", footer=False),
    Key("runs.prune", "p", "start('prune')", "prune",
        "Find circuits of a task: one target, or a sweep of several."),
    Key("runs.verify", "v", "start('verify')", "verify",
        "Put the chosen circuit to its controls."),
    Key("runs.cancel", "x,delete", "cancel_job", "cancel job",
        "End the job under the cursor within one step."),
    Key("runs.refresh", "r", "refresh_jobs", "refresh", "Ask for the jobs again.", footer=False),
    Key("card.verify", "v", "verify", "verify", "Put this circuit to its controls now."),
    Key("plots.kind", "k", "show_kind('sizes')", "loss against k",
        "Every circuit of this model and task: loss by its size."),
    Key("plots.curve", "c", "show_kind('curve')", "pruning",
        "Loss and nodes kept while this circuit was found."),
    Key("plots.settings", "s", "show_kind('settings')", "settings",
        "How this circuit was found, every hyper-parameter."),
    Key("plots.training", "t", "show_kind('training')", "training",
        "What was written down while the model was trained."),
    Key("plots.metric", "m", "next_metric(1)", "next metric", "Another training metric.",
        footer=False),
    Key("channel.of", "u", "other_side", "embedding / unembedding",
        "The tokens that write the channel, or those whose logits it raises."),
    Key("channel.next", "right_square_bracket", "channel(1)", "next channel",
        "The next channel of the stream.", footer=False),
    Key("channel.previous", "left_square_bracket", "channel(-1)", "channel before",
        "The channel before.", footer=False),
    Key("table.choose", "enter", "choose", "open", "Open what the cursor is on."),
)  # fmt: skip

#: How Textual names the keys that footers and documents write with their sign.
_SIGNS: Final[dict[str, str]] = {
    "question_mark": "?",
    "escape": "esc",
    "slash": "/",
    "space": "space",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "plus": "+",
    "minus": "-",
    "equals_sign": "=",
    "full_stop": ".",
    "comma": ",",
    "less_than_sign": "<",
    "greater_than_sign": ">",
}


def bindings(*places: str) -> list[Binding]:
    """The bindings of some places, for a class's BINDINGS."""
    return [
        Binding(
            key.keys,
            key.action,
            key.label,
            show=key.footer,
            key_display=written(key.keys.partition(",")[0]),
            id=key.id,
            tooltip=key.help,
        )
        for key in TABLE
        if key.where in places
    ]


def written(keys: str) -> str:
    """Keys as a person writes them: `ctrl+p` as `^p`, `slash` as `/`."""
    return " ".join(
        "^" + key.removeprefix("ctrl+") if key.startswith("ctrl+") else _SIGNS.get(key, key)
        for key in keys.split(",")
    )


def read_keymap(path: Path) -> dict[str, str]:
    """A user's own keys: TOML lines `"circuit.zoom_in" = "plus,z"`.

    Raises NotFound for a file or a binding that is not there, InvalidRequest for what is no TOML
    or gives one key to two actions of one place.
    """
    try:
        given = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound("there is no such file of keys", asked=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise InvalidRequest(
            "the file of keys is not TOML", asked=str(path), found=str(e)
        ) from None
    flat = dict(_flattened("", given))
    known = {key.id: key for key in TABLE}
    for name, keys in flat.items():
        if name not in known:
            raise NotFound(
                "no binding has this name",
                asked=f"{name} in {path}",
                nearest=_nearest(name, known),
                hint="`circuit_tui/keys.py` names them all",
            )
        if not isinstance(keys, str) or not keys:
            raise InvalidRequest(
                'a binding\'s keys are a text like "f5,ctrl+g"', asked=name, found=repr(keys)
            )
    _check_unique({key.id: flat.get(key.id, key.keys) for key in TABLE})
    return flat


def _flattened(prefix: str, given: dict) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in given.items():
        path = f"{prefix}{name}"
        pairs += _flattened(f"{path}.", value) if isinstance(value, dict) else [(path, value)]
    return pairs


def _nearest(name: str, known: dict[str, Key]) -> tuple[str, ...]:
    from difflib import get_close_matches

    return tuple(get_close_matches(name, known, n=3))


def _check_unique(keymap: dict[str, str]) -> None:
    taken: dict[tuple[str, str], str] = {}
    for name, keys in keymap.items():
        place = name.partition(".")[0]
        for key in keys.split(","):
            other = taken.setdefault((place, key), name)
            if other != name:
                raise InvalidRequest(
                    "one key cannot do two things", found=f"{key}: {other}, {name}"
                )
