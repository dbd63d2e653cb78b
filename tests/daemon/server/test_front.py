"""A front and its clients in one loop: who is answered what, and that the front goes on."""

from pathlib import Path

from circuit_protocol import requests as r
from circuit_protocol.replies import ForwardResult, StatusReport, Welcome
from front_harness import house


async def test_hello_status_and_forward_through_a_worker(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        client = await h.client(hello=False)
        welcome = await client.hello()
        assert isinstance(welcome, Welcome)
        assert welcome.limits == h.settings.limits
        assert welcome.instance == h.front.instance
        reply = await client.ask(client.forward())
        assert isinstance(reply, ForwardResult)
        assert not reply.cached
        report = await client.ask(r.Status(id="s"))
        assert isinstance(report, StatusReport)
        assert [p.role for p in report.processes] == ["front", "worker"]
        assert [m.model for m in report.resident] == ["m"]
