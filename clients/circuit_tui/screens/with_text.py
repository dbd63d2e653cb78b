"""What can be done with a text beside typing it: ask why, open a file, make a task example."""

from pathlib import Path
from typing import Any

from circuit_client.answers import AblateAnswer
from circuit_client.verbs.models import tokenize
from circuit_protocol.errors import InvalidRequest
from circuit_tui.link import Problem
from circuit_tui.screens.ask_name import AskName
from circuit_tui.screens.operating import Operating
from circuit_tui.task_example import Side, add_pair, check_pair
from circuit_tui.trying import MAX_CHARACTERS, Tried, Why, read_why, why_call
from circuit_tui.widgets.prompt import Prompt


class WithText(Operating):
    """A page with a `Prompt`, its tokens as they were run, and a cursor among them. What a page
    must add to it raises NotImplementedError: Textual has a metaclass of its own, which no ABC has.
    """

    def __init__(self) -> None:
        super().__init__()
        self._model: Tried | None = None
        #: The explanation that is shown, and the tokens it is of.
        self._why: Why | None = None
        self._why_of: tuple[int, ...] = ()
        #: The first prompt of an example, while the second is being written.
        self._side: Side | None = None

    def _position(self) -> int | None:
        """The token under the cursor."""
        raise NotImplementedError

    def _fill_tables(self) -> None:
        """Show what is said of that token."""
        raise NotImplementedError

    def _typed(self) -> None:
        """The text is another one."""
        raise NotImplementedError

    def action_why(self) -> None:
        """Ask for the other token, the likeliest one to begin with."""
        at = self._position()
        if self._model is None or at is None or self.loaded is None:
            self.notify("Type a text and choose a circuit first.", severity="warning")
            return
        right = self._right(at)
        names = self.circuit_app.names
        other = next(int(t) for t in self._model.next_ids[at] if int(t) != right)
        shown = names[right].decode("utf-8", "replace")
        question = f"Why {shown!r} and not which other token?"
        self.app.push_screen(
            AskName(question, names[other].decode("utf-8", "replace")), self._ask_why_text
        )

    def _right(self, at: int) -> int:
        """The token that follows, or, at the end, the likeliest."""
        assert self._model is not None
        tokens = self._model.tokens
        return tokens[at + 1] if at + 1 < len(tokens) else int(self._model.next_ids[at, 0])

    def _ask_why_text(self, text: str | None) -> None:
        if not text or self._model is None:
            return
        at = self._position() or 0
        # The dialog strips blanks, which are part of tokens: a prediction that reads so is meant.
        names = self.circuit_app.names
        likely = {names[int(t)].decode("utf-8", "replace").strip(): int(t)
                  for t in reversed(self._model.next_ids[at])}  # fmt: skip
        if text in likely:
            self._ask_why(likely[text])
            return

        def taken(rows: Any) -> None:
            if len(rows[0]) != 1:
                problem = InvalidRequest(
                    "the other answer must be a single token",
                    asked=text,
                    found=f"{len(rows[0])} tokens",
                )
                self.circuit_app.on_problem(Problem(problem))
                return
            self.circuit_app.learn_names([rows[0][0].id], self._fill_tables)
            self._ask_why(rows[0][0].id)

        self.ask("token", tokenize(text, self.scene.model), taken)

    def _ask_why(self, wrong: int) -> None:
        at, loaded = self._position(), self.loaded
        if self._model is None or at is None or loaded is None:
            return
        right = self._right(at)
        if right == wrong:
            self.notify("This is the very token that follows.", severity="warning")
            return
        prefix = self._model.tokens[: at + 1]

        def taken(answer: AblateAnswer) -> None:
            self._why, self._why_of = read_why(loaded, answer, at, right, wrong), prefix
            self._fill_tables()
            self.show_pane("nodes-pane")

        self.ask("why", why_call(loaded, prefix, right, wrong), taken, what="asking why")

    def action_open_file(self) -> None:
        """Ask for a file's name."""
        self.app.push_screen(AskName("Open which file?", str(Path.cwd()) + "/"), self._open)

    def _open(self, name: str | None) -> None:
        if not name:
            return
        path = Path(name).expanduser()
        try:
            nbytes = path.stat().st_size
            if nbytes > 4 * MAX_CHARACTERS:
                raise InvalidRequest(
                    "this file is too long for a prompt",
                    asked=str(path),
                    found=f"{nbytes:,} bytes",
                    hint="Cut out the part that matters",
                )
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            problem = InvalidRequest("this file cannot be read", asked=str(path), found=str(e))
            self.circuit_app.on_problem(Problem(problem))
            return
        except InvalidRequest as e:
            self.circuit_app.on_problem(Problem(e))
            return
        self.query_one(Prompt).load_text(text[:MAX_CHARACTERS])
        self._typed()

    def action_make_example(self) -> None:
        """The text up to the cursor as one side of a pair, then the other side, then the task."""
        at = self._position()
        if self._model is None or at is None:
            self.notify("Type a text first.", severity="warning")
            return
        names = self.circuit_app.names
        prompt = b"".join(names.of(self._model.tokens[: at + 1])).decode("utf-8", "replace")
        side = Side(prompt, names[self._right(at)].decode("utf-8", "replace"))
        first = self._side
        if first is None:
            self._side = side
            self.notify(
                f"First prompt: …{side.prompt[-30:]!r} then {side.target!r}. Now change the text "
                "so that another token is right, and press x again.",
                markup=False,
                timeout=8,
            )
            return
        self._side = None
        try:
            check_pair(first, side)
        except InvalidRequest as e:
            self._side = first
            self.circuit_app.on_problem(Problem(e))
            return
        question = f"{first.target!r} against {side.target!r}: add the pair to which task?"

        def named(task: str | None) -> None:
            if task:
                self._save_pair(task, first, side)

        self.app.push_screen(AskName(question, "my_task"), named)

    def _save_pair(self, task: str, first: Side, second: Side) -> None:
        try:
            path = add_pair(task, first, second)
        except (InvalidRequest, OSError) as e:
            error = e if isinstance(e, InvalidRequest) else InvalidRequest(str(e))
            self.circuit_app.on_problem(Problem(error))
            return
        self.notify(f"Added a pair to {path}; the daemon here knows it as {task}.", markup=False)
