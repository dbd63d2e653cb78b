"""The catalogue: models and what they hold in memory, tasks, and the circuits that were found.

Each table narrows the next. On a narrow terminal one is in sight at a time, and tabs say which.
"""

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Input, Static

from circuit_client.render.text_width import shown
from circuit_client.verbs import circuits, models, tasks
from circuit_protocol.circuits import CircuitSummary
from circuit_protocol.replies import ModelSummary, ResidentReport, TaskShown, TaskSummary
from circuit_tui.keys import bindings
from circuit_tui.link import LinkState
from circuit_tui.recent import read_recent, remember
from circuit_tui.screens.page import Page
from circuit_tui.state import Choose, Scene
from circuit_tui.views.catalogue import (
    ALL_TASKS,
    CIRCUIT_COLUMNS,
    MODEL_COLUMNS,
    RECENT,
    TASK_COLUMNS,
    circuit_rows,
    matching,
    model_rows,
    task_rows,
)
from circuit_tui.views.table import as_text
from circuit_tui.widgets.one_line import OneLine
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.rows import Rows


class Catalogue(Page):
    """Choose a model, a task and a circuit."""

    PLACE = "catalogue"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "Models stand at the left, above the tasks they can do; a dot marks a model that is in "
        "memory. The circuits of the task under the cursor stand at the right, with their size k, "
        "their loss in nats per side (chance is 0.693) and their verdict. Enter opens one."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("catalogue"))
    PANES: ClassVar[dict[str, str]] = {
        "tasks-pane": "tasks",
        "circuits-pane": "circuits",
        "models-pane": "models",
    }
    DEFAULT_CSS = """
    Catalogue #lists { width: 44; }
    Catalogue.-narrow #lists { width: 1fr; }
    Catalogue #models-pane { height: auto; max-height: 9; }
    Catalogue #models-pane Rows { height: auto; max-height: 7; }
    Catalogue #about { height: auto; max-height: 9; padding: 1 1 0 2; color: $text-muted; }
    Catalogue OneLine { display: none; }
    Catalogue OneLine.-open { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._models: tuple[ModelSummary, ...] = ()
        self._tasks: tuple[TaskSummary, ...] = ()
        self._found: tuple[CircuitSummary, ...] = ()
        self._recent = read_recent()
        self._is_listed = False

    def compose_page(self) -> ComposeResult:
        """Models and tasks at the left, circuits at the right."""
        yield PaneTabs(self.PANES)
        waiting = "waiting for the daemon"
        with Horizontal():
            with Vertical(id="lists"):
                yield Pane("models", Rows(MODEL_COLUMNS, empty=waiting, id="models"),
                           id="models-pane")  # fmt: skip
                yield Pane("tasks", Rows(TASK_COLUMNS, empty=waiting, id="tasks"), id="tasks-pane")
            yield Pane(
                "circuits",
                OneLine(placeholder="words of a task, sweep, verdict or id", id="words"),
                Rows(CIRCUIT_COLUMNS, empty=waiting, id="circuits"),
                Static(id="about", markup=False),
                id="circuits-pane",
            )

    def on_mount(self) -> None:
        """Begin at the tasks."""
        super().on_mount()
        self.show_pane("tasks-pane")

    # --------------------------------------------------------------------------------- listening

    def show_link(self, before: LinkState, after: LinkState) -> None:
        """Ask for the lists once there is a daemon, again when it is another one."""
        if after.phase == "open" and after.welcome is not None:
            is_new = before.welcome is None or before.welcome.instance != after.welcome.instance
            if is_new or not self._is_listed:
                self.action_refresh_lists()
        if _held(before) != _held(after):
            self._fill_models()

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """Another model has other circuits."""
        if before is None or before.model != after.model:
            self._fill_models()
            self._fill_tasks()
            self._fill_circuits()
        if before is not None and before.circuit != after.circuit and after.circuit:
            self._recent = remember(after.circuit)
            self._fill_tasks()

    def action_refresh_lists(self) -> None:
        """Ask for models, tasks and circuits again."""
        self._is_listed = True
        self.ask("models", models.list_models(), self._take_models, what="listing models")
        self.ask("tasks", tasks.list_tasks(), self._take_tasks, what="listing tasks")
        self.ask("circuits", circuits.list_circuits(limit=100_000), self._take_circuits,
                 what="listing circuits")  # fmt: skip

    def _take_models(self, found: tuple[ModelSummary, ...]) -> None:
        self._models = found
        default = next((m.name for m in found if m.default), None)
        if self.scene.model is None and default is not None:
            self.do(Choose(model=default))
        self._fill_models()
        self._fill_circuits()

    def _take_tasks(self, found: tuple[TaskSummary, ...]) -> None:
        self._tasks = found
        self._fill_tasks()

    def _take_circuits(self, found: tuple[CircuitSummary, ...]) -> None:
        self._found = found
        self._fill_tasks()
        self._fill_circuits()

    # ------------------------------------------------------------------------------------ filling

    @property
    def _here(self) -> list[CircuitSummary]:
        """The circuits of the chosen model, and of models that are not here."""
        return [s for s in self._found if self.scene.model in (None, s.model)]

    def _fill_models(self) -> None:
        status = self.circuit_app.link.state.status
        resident = () if status is None else status.resident
        rows = model_rows(self._models, resident, chosen=self.scene.model)
        self.query_one("#models", Rows).fill(rows, empty="no model was found")
        if status is not None:
            from circuit_client.render.table import nbytes

            used = f"{nbytes(status.used_nbytes)} in memory" if resident else "none in memory"
            if resident and status.budget_nbytes:
                used += f" of {nbytes(status.budget_nbytes)}"
            self.query_one("#models-pane", Pane).note(used)

    def _fill_tasks(self) -> None:
        n_recent = len([s for s in self._found if s.id in self._recent])
        rows = task_rows(self._tasks, self._here, n_recent=n_recent)
        self.query_one("#tasks", Rows).fill(
            rows if self._is_listed else (),
            empty="no tasks" if self._is_listed else "waiting for the daemon",
        )

    def _fill_circuits(self) -> None:
        table = self.query_one("#circuits", Rows)
        task = self._task_here()
        words = self.query_one("#words", Input).value
        if task == RECENT:
            by_id = {s.id: s for s in self._found}
            some = [by_id[i] for i in self._recent if i in by_id]
        else:
            some = [s for s in self._here if task in (None, ALL_TASKS, s.task)]
            some.sort(key=lambda s: (s.task, s.measured.k))
        some = matching(some, words)
        empty = (
            "no circuit contains these words" if words else "no circuit yet: find one with a prune"
        )
        table.fill(circuit_rows(some), empty=empty if self._is_listed else "waiting for the daemon")
        self.query_one("#circuits-pane", Pane).note(f"{len(some)}")

    def _task_here(self) -> str | None:
        row = self.query_one("#tasks", Rows).current
        return None if row is None else row.key

    def _show_task(self, answer: TaskShown) -> None:
        lines = [answer.task.description]
        for pair in answer.pairs[:2]:
            for prompt, target in zip(pair.prompts, pair.targets, strict=True):
                lines.append(f"  …{shown(prompt[-48:])}  →  {shown(target)}")
        self.query_one("#about", Static).update("\n".join(lines))

    # ------------------------------------------------------------------------------------- acting

    @on(Rows.Moved, "#tasks")
    def look_at_task(self, message: Rows.Moved) -> None:
        """Show its circuits, and what it is."""
        self._fill_circuits()
        if message.row.key in (ALL_TASKS, RECENT):
            self.drop("task")
            self.query_one("#about", Static).update("")
        else:
            self.ask("task", tasks.show(message.row.key, n=2), self._show_task,
                     otherwise=lambda _: None)  # fmt: skip

    @on(Rows.Chosen, "#tasks")
    def go_to_circuits(self) -> None:
        """On to its circuits."""
        self.show_pane("circuits-pane")

    @on(Rows.Chosen, "#models")
    def choose_model(self, message: Rows.Chosen) -> None:
        """Another model."""
        broken = next((m.broken for m in self._models if m.name == message.row.key), None)
        if broken:
            self.notify(f"This model cannot be used: {broken}", severity="error", markup=False)
            return
        self.do(Choose(model=message.row.key))
        self.show_pane("tasks-pane")

    @on(Rows.Chosen, "#circuits")
    def open_circuit(self, message: Rows.Chosen) -> None:
        """Open it."""
        found = next((s for s in self._found if s.id == message.row.key), None)
        if found is None:
            return
        if found.broken:
            self.notify(f"This circuit cannot be used: {found.broken}", severity="error",
                        markup=False)  # fmt: skip
            return
        self._recent = remember(found.id)
        self._fill_tasks()
        self.do(Choose(found.model, found.task, found.id, found.measured.k))
        self.circuit_app.action_go("circuit")

    def action_search(self) -> None:
        """Search among the circuits."""
        self.show_pane("circuits-pane")
        words = self.query_one("#words", Input)
        words.add_class("-open")
        words.focus()

    @on(Input.Changed, "#words")
    def narrow(self) -> None:
        """Show what contains the words."""
        self._fill_circuits()

    @on(Input.Submitted, "#words")
    def leave_search(self) -> None:
        """Back to the table; the words stay."""
        words = self.query_one("#words", Input)
        words.set_class(bool(words.value), "-open")
        self.query_one("#circuits", Rows).focus()

    def action_load(self) -> None:
        """Load the model under the cursor, or free it."""
        row = self.query_one("#models", Rows).current
        name = self.scene.model if not self.query_one("#models", Rows).has_focus else None
        name = name or (row.key if row else None)
        status = self.circuit_app.link.state.status
        if name is None or status is None:
            return
        if any(r.model == name for r in status.resident):
            self.ask("load", models.unload(name), lambda _: None, what=f"unloading {name}")
        else:
            self.ask("load", models.load(name), self._loaded, what=f"loading {name}")

    def _loaded(self, report: ResidentReport) -> None:
        for note in report.notes:
            self.notify(note, markup=False)

    # ------------------------------------------------------------------------------------ sharing

    def plain_text(self) -> str:
        """The circuits in sight."""
        return as_text(CIRCUIT_COLUMNS, self.query_one("#circuits", Rows).rows)

    def as_python(self) -> str:
        """The list."""
        task = self._task_here()
        of = "" if task in (None, ALL_TASKS, RECENT) else f", task={task!r}"
        return (
            "from circuit_client import connect\n\nwith connect() as c:\n"
            f"    for found in c.circuits.list({self.scene.model!r}{of}):\n"
            "        print(found.id, found.task, found.measured.k, found.measured.loss)\n"
        )

    def as_command(self) -> str:
        """The list."""
        task = self._task_here()
        of = "" if task in (None, ALL_TASKS, RECENT) else f" --task {task}"
        return f"circuit circuits list --model {self.scene.model}{of}"

    def as_json(self) -> Any:
        """The circuits in sight."""
        keys = {row.key for row in self.query_one("#circuits", Rows).rows}
        return {"circuits": [s for s in self._found if s.id in keys]}


def _held(link: LinkState) -> list[tuple[str, int]] | None:
    """What is in memory, without how long it will stay: that changes at every look."""
    return None if link.status is None else [(r.model, r.nbytes) for r in link.status.resident]
