"""The line at the top: where you are, and how the daemon, its queue and the line to it do.

Host, daemon, model, queue and latency are always in sight. It repaints when what it says changed,
so a daemon that is only being watched sends nothing to the terminal.
"""

import socket
import time
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from circuit_client.render.text_width import shown, truncate, width
from circuit_tui.link import LinkState
from circuit_tui.state import Scene

#: Waits shorter than this are not shown: the answer is there before it could be read.
_PATIENCE_S = 0.25


class TopBar(Widget):
    """Two halves: what is looked at on the left, the daemon on the right."""

    DEFAULT_CSS = """
    TopBar { height: 1; dock: top; background: $panel; color: $foreground; }
    TopBar > .top-bar--good { color: $text-success; }
    TopBar > .top-bar--bad { color: $text-error; text-style: bold; }
    TopBar > .top-bar--wait { color: $text-warning; }
    TopBar > .top-bar--dim { color: $text-muted; }
    TopBar > .top-bar--title { color: $text-primary; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "top-bar--good",
        "top-bar--bad",
        "top-bar--wait",
        "top-bar--dim",
        "top-bar--title",
    }
    said: reactive[tuple[tuple[str, str], ...]] = reactive(())

    def __init__(self, title: str, *, ascii_only: bool = False) -> None:
        super().__init__()
        self._title = title
        self._ascii = ascii_only
        self._scene = Scene()
        self._link = LinkState()
        self._place = ""

    def show(self, scene: Scene, link: LinkState, place: str = "") -> None:
        """Say how things are."""
        self._scene, self._link, self._place = scene, link, place
        self._say()
        if link.waits:
            self.set_timer(_PATIENCE_S, self._say)

    def _say(self) -> None:
        self.said = (*self._left(), ("", "\0"), *self._right())

    def _left(self) -> list[tuple[str, str]]:
        arrow = " > " if self._ascii else " › "
        parts = [("title", f" {self._title}")]
        where = [self._scene.model, self._scene.task, self._place]
        for text in where:
            if text:
                parts += [("dim", arrow), ("", shown(text, ascii_only=self._ascii))]
        n_off = len(self._scene.switched.off) + len(self._scene.switched.added)
        if n_off:
            parts.append(("wait", f"  {n_off} switched"))
        return parts

    def _right(self) -> list[tuple[str, str]]:
        link, dot = self._link, "*" if self._ascii else "●"
        now_s = time.monotonic()
        waits = [w for w in link.waits if now_s - w.since_s >= _PATIENCE_S * 0.9]
        parts: list[tuple[str, str]] = []
        if waits:
            more = f" +{len(waits) - 1}" if len(waits) > 1 else ""
            parts.append(("wait", f"{waits[0].what}{more} (esc)  "))
        host = socket.gethostname()
        if link.endpoint.startswith("tcp://"):
            host = link.endpoint.removeprefix("tcp://")
        match link.phase:
            case "open" if link.endpoint.startswith("replay"):
                parts += [("wait", dot), ("", f" {link.endpoint}")]
            case "open":
                parts += [("good", dot), ("", f" {host}")]
                parts += [("dim", f"  {text}") for text in self._daemon()]
            case "connecting":
                parts.append(("wait", f"{dot} connecting"))
            case "starting":
                parts.append(("wait", f"{dot} starting a daemon"))
            case "lost":
                parts.append(("bad", f"{dot} {host} lost, trying again"))
            case "absent":
                parts.append(("bad", f"{dot} no daemon"))
            case "refused":
                parts.append(("bad", f"{dot} refused"))
        return [*parts, ("", " ")]

    def _daemon(self) -> list[str]:
        link = self._link
        said: list[str] = []
        if link.status is not None:
            working = link.status.running + link.status.queued
            said.append(f"queue {working}" if working else "idle")
            if link.status.jobs_unfinished:
                said.append(f"jobs {link.status.jobs_unfinished}")
        if link.latency_s is not None:
            said.append(spoken_latency(link.latency_s))
        if link.attached > 1:
            said.append(f"shared by {link.attached}")
        return said

    def render_line(self, y: int) -> Strip:
        """The left half as far as there is room beside the right one."""
        cut = self.said.index(("", "\0")) if ("", "\0") in self.said else len(self.said)
        left, right = list(self.said[:cut]), list(self.said[cut + 1 :])
        columns = self.size.width
        room = columns - sum(width(text) for _, text in right)
        while room < columns // 3 and len(right) > 3:
            right.pop(-2)  # what says least is last
            room = columns - sum(width(text) for _, text in right)
        segments: list[Segment] = []
        for tone, text in left:
            fitted = truncate(text, max(0, room - 1), ellipsis="~" if self._ascii else "…")
            segments.append(Segment(fitted, self._style(tone)))
            room -= width(fitted)
            if fitted != text:
                break
        segments.append(Segment(" " * max(0, room), self.rich_style))
        segments += [Segment(text, self._style(tone)) for tone, text in right]
        return Strip(segments).adjust_cell_length(columns, self.rich_style)

    def _style(self, tone: str) -> Style:
        return self.get_component_rich_style(f"top-bar--{tone}") if tone else self.rich_style


def spoken_latency(seconds: float) -> str:
    """A latency in so few steps that it seldom changes: `<1 ms`, `2 ms`, `5 ms` … `10 s`."""
    milliseconds = 1000 * seconds
    if milliseconds < 1:
        return "<1 ms"
    for step in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        if milliseconds < 1.5 * step:
            return f"{step} ms"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
