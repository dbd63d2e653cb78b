"""What the app does while there is no daemon: it says so, offers to start one, and does.

One that will not talk to this client is as good as none: that is said in the same place.
"""

import os

from textual.app import App

from circuit_protocol.errors import CircuitError
from circuit_tui.link import Link, LinkState, Problem
from circuit_tui.options import Options
from circuit_tui.saying import said
from circuit_tui.screens.no_daemon import NoDaemon


class OfferingDaemon(App[None]):
    """An app that can do without a daemon for a while."""

    options: Options
    link: Link
    #: What was said and answered: it is not said again.
    _offered: CircuitError | None = None

    def offer_daemon(self, state: LinkState) -> None:
        """Offer to start a daemon while none is there; take the offer back once one is."""
        offered = isinstance(self.screen, NoDaemon)
        if state.phase == "open":
            self._offered = None
            if offered:
                self.pop_screen()
        elif state.phase in ("absent", "refused") and state.error is not None:
            error, before = state.error, self._offered
            if before is not None and type(before) is type(error):
                return
            if offered:
                self.pop_screen()
            self._offered = error
            can_start = state.phase == "absent" and (
                self.options.endpoint is None and not os.environ.get("CIRCUIT_ENDPOINT")
            )
            lines = said(error)
            if can_start and error.hint:
                lines.pop()  # the offer is the next step

            def answered(is_yes: bool | None) -> None:
                if is_yes:
                    self.action_start_daemon()

            self.push_screen(NoDaemon("\n".join(lines), can_start=can_start), answered)

    def action_start_daemon(self) -> None:
        """Start a daemon here, in a thread; the link finds it."""
        if self.link.state.phase not in ("absent", "lost"):
            self.notify("A daemon is there already.", severity="warning")
            return
        self.link.starting()
        self.run_worker(self._start_daemon, thread=True, exit_on_error=False, group="start")

    def _start_daemon(self) -> None:
        from circuit_client.reach import start_daemon

        try:
            start_daemon()
        except CircuitError as e:
            self.post_message(Problem(e))
