"""Runs: jobs there are, the one that is watched, its curves as they grow; start and cancel."""

from typing import Any, ClassVar, Final

import msgspec
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll

from circuit_client.verbs.jobs import cancel, list_jobs, watch
from circuit_protocol.errors import CircuitError
from circuit_protocol.replies import JobInfo
from circuit_tui.keys import bindings
from circuit_tui.link import LinkState
from circuit_tui.screens.page import Page
from circuit_tui.screens.start_run import start_run
from circuit_tui.starting import Kind
from circuit_tui.state import Scene
from circuit_tui.views.jobs import JOB_COLUMNS, Heard, job_rows
from circuit_tui.views.table import as_text
from circuit_tui.widgets.lines import Lines
from circuit_tui.widgets.panes import Pane, PaneTabs
from circuit_tui.widgets.plot import Plot
from circuit_tui.widgets.rows import Rows

#: How often the list is asked for while it is looked at.
_EVERY_S: Final = 2.0
#: How often curves are drawn again at most, five times a second.
_PAINT_EVERY_S: Final = 0.2


class RunsPage(Page):
    """Watch jobs."""

    PLACE = "runs"
    TITLE_TEXT = "circuit"
    HELP_TEXT = (
        "Jobs run in the daemon, whether or not anybody watches: leave, come back, and find them "
        "here. p finds circuits of a task (several targets or sizes make a sweep), v puts the "
        "chosen circuit to its controls. At the right: how far the job under the cursor is, loss "
        "and nodes kept as they fall, and what it has found. x ends it."
    )
    BINDINGS: ClassVar[list[BindingType]] = list(bindings("runs"))
    PANES: ClassVar[dict[str, str]] = {"jobs-pane": "jobs", "watched-pane": "watched"}
    DEFAULT_CSS = """
    RunsPage #jobs-pane { width: 1fr; }
    RunsPage #watched-pane { width: 1fr; padding: 0 1; }
    RunsPage #said { height: auto; max-height: 12; }
    RunsPage #curves { height: 1fr; }
    RunsPage Plot { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._jobs: tuple[JobInfo, ...] = ()
        self._watched: str | None = None
        self._heard: dict[str, Heard] = {}
        self._is_due = False

    def compose_page(self) -> ComposeResult:
        """Jobs at the left, the watched one at the right."""
        look = self.circuit_app.look
        yield PaneTabs(self.PANES)
        with Horizontal():
            yield Pane("jobs", Rows(JOB_COLUMNS, empty="asking", id="jobs"), id="jobs-pane")
            yield Pane(
                "watched",
                VerticalScroll(Lines(look=look, height=1, id="lines"), id="said"),
                Vertical(
                    Plot(y_name="loss, nats per side", look=look, empty="no curve of this job",
                         id="loss"),
                    Plot(y_name="nodes kept", log_y=True, look=look, empty="", id="kept"),
                    id="curves",
                ),
                id="watched-pane",
            )  # fmt: skip

    def on_mount(self) -> None:
        """Begin at the list, and keep it fresh."""
        super().on_mount()
        self.show_pane("jobs-pane")
        self.set_interval(_EVERY_S, self._tick)

    def _tick(self) -> None:
        if self.is_current:
            self.action_refresh_jobs()

    # --------------------------------------------------------------------------------- listening

    def show_link(self, before: LinkState, after: LinkState) -> None:
        """Ask when there is a daemon; watch again what was watched."""
        if after.phase == "open" and before.phase != "open":
            self._watched = None
            self.action_refresh_jobs()

    def show_scene(self, before: Scene | None, after: Scene) -> None:
        """The first look asks."""
        if before is None:
            self.action_refresh_jobs()

    def refresh_page(self) -> None:
        """A job that was started elsewhere in the app is the one to watch."""
        super().refresh_page()
        if self.circuit_app.watched_job is not None and self.is_mounted:
            self.action_refresh_jobs()

    def action_refresh_jobs(self) -> None:
        """Ask for the jobs."""
        self.ask("jobs", list_jobs(), self._take_jobs, otherwise=lambda _: None)

    def _take_jobs(self, jobs: tuple[JobInfo, ...]) -> None:
        before = self._job_here()
        self._jobs = jobs
        table = self.query_one("#jobs", Rows)
        rows = job_rows(jobs, self.circuit_app.look)
        started = self.circuit_app.watched_job
        if started is not None and any(job.job == started for job in jobs):
            self.circuit_app.watched_job = None
        else:
            started = None
        if list(table.rows) != rows or started is not None:
            table.fill(rows, empty="no job yet: p finds a circuit", cursor_key=started)
        running = sum(job.state in ("queued", "running") for job in jobs)
        self.query_one("#jobs-pane", Pane).note(f"{running} running, {len(jobs)} in all")
        self._watch_here()
        if self._job_here() != before:  # it may have ended
            self._paint()

    # ----------------------------------------------------------------------------------- watching

    @on(Rows.Moved, "#jobs")
    def look_at_job(self) -> None:
        """Watch the job under the cursor."""
        self._watch_here()

    def _job_here(self) -> JobInfo | None:
        row = self.query_one("#jobs", Rows).current
        return None if row is None else next((j for j in self._jobs if j.job == row.key), None)

    def _watch_here(self) -> None:
        job = self._job_here()
        if job is None or job.job == self._watched:
            return
        self._watched = job.job
        heard = self._heard.setdefault(job.job, Heard())
        self._paint()
        if job.state in ("failed", "cancelled"):
            self.drop("job watched")
            return

        def take(event: Any) -> None:
            heard.take(event)
            if not self._is_due:
                self._is_due = True
                self.set_timer(_PAINT_EVERY_S, self._paint)

        def ended(answer: Any) -> None:
            heard.end(answer)
            self._paint()
            self.action_refresh_jobs()

        def failed(error: CircuitError) -> None:
            self.action_refresh_jobs()

        # The slot begins with "job": how long a job takes says nothing about the line.
        self.ask("job watched", watch(job.job), ended, during=take, otherwise=failed)

    def _paint(self) -> None:
        self._is_due = False
        job = self._job_here()
        if job is None or not self.is_mounted:
            return
        heard = self._heard.get(job.job, Heard())
        pane, lines = self.query_one("#watched-pane", Pane), self.query_one("#lines", Lines)
        pane.retitle(job.description or job.request_type, job.job)
        found = heard.lines(job, self.circuit_app.look, pane.size.width - 4)
        lines.styles.height = max(1, len(found))
        lines.show(found)
        loss, kept = heard.curves()
        self.query_one("#curves").display = bool(loss or kept)
        self.query_one("#loss", Plot).show(loss, x_name=heard.along)
        self.query_one("#kept", Plot).show(kept, x_name=heard.along)

    # ------------------------------------------------------------------------------------- acting

    def action_start(self, kind: Kind) -> None:
        """Set up a run."""
        start_run(self, kind)

    def action_cancel_job(self) -> None:
        """End the job under the cursor."""
        job = self._job_here()
        if job is None or job.state not in ("queued", "running"):
            self.notify("This job has ended already.", severity="warning")
            return

        def done(changed: bool) -> None:
            self.notify(f"Job {job.job} is ended." if changed else "It had ended already.")
            self.action_refresh_jobs()

        self.ask("cancel", cancel(job.job), done, what="ending the job")

    @on(Rows.Chosen, "#jobs")
    def open_found(self) -> None:
        """Open the circuit that the job found, or was about."""
        job = self._job_here()
        heard = None if job is None else self._heard.get(job.job)
        if heard is not None and heard.circuits:
            last = heard.circuits[-1]
            self.circuit_app.open_circuit(last.id, last.model)
        else:
            self.show_pane("watched-pane")

    # ------------------------------------------------------------------------------------ sharing

    def place_name(self) -> str:
        """Runs."""
        return "runs"

    def plain_text(self) -> str:
        """The jobs, and what is said of the watched one."""
        jobs = as_text(JOB_COLUMNS, self.query_one("#jobs", Rows).rows)
        return f"{jobs}\n\n{self.query_one('#lines', Lines).text}"

    def as_python(self) -> str:
        """How to wait for the job from Python."""
        job = self._job_here()
        if job is None:
            return ""
        return (
            "from circuit_client import connect\n\n"
            "with connect() as c:\n"
            f"    print(c.jobs.watch({job.job!r}).result())\n"
        )

    def as_command(self) -> str:
        """The command that follows the job."""
        job = self._job_here()
        return "circuit jobs list" if job is None else f"circuit jobs watch {job.job}"

    def as_json(self) -> Any:
        """The jobs' records."""
        return msgspec.to_builtins(self._jobs)
