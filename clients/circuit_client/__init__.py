r"""The Python client of circuitd: `connect()` and its asynchronous twin.

    from circuit_client import connect, iv

    with connect() as c:
        answer = c.forward(text="def f(x):\n    return x", targets="next")
        print(answer.loss, answer.logits.shape)
        off = iv.zero("2.mlp.post_act", channels=[1])
        print(c.forward(text="print('", logits="last", top_k=5, interventions=[off]).top_k.ids)

Every verb waits for its answer when called; `.start(...)` sends it and goes on, `.detach(...)` runs
it as a job. Names are imported when they are first used, so that the command line starts quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from circuit_client import iv
    from circuit_client.aio import AsyncConnection, AsyncJob, AsyncStream
    from circuit_client.answers import AblateAnswer, ForwardAnswer, Generated, HookAnswer, Step
    from circuit_client.circuit_answers import AttentionAnswer, NodeActivity, VizData
    from circuit_client.connecting import connect, connect_async
    from circuit_client.sync import Connection, Job, Stream
    from circuit_client.values import Value

_HOMES = {
    "connect": "connecting",
    "connect_async": "connecting",
    "Connection": "sync",
    "Stream": "sync",
    "Job": "sync",
    "AsyncConnection": "aio",
    "AsyncStream": "aio",
    "AsyncJob": "aio",
    "ForwardAnswer": "answers",
    "HookAnswer": "answers",
    "AblateAnswer": "answers",
    "Generated": "answers",
    "Step": "answers",
    "NodeActivity": "circuit_answers",
    "VizData": "circuit_answers",
    "AttentionAnswer": "circuit_answers",
    "Value": "values",
}

__all__ = [
    "AblateAnswer",
    "AsyncConnection",
    "AsyncJob",
    "AsyncStream",
    "AttentionAnswer",
    "Connection",
    "ForwardAnswer",
    "Generated",
    "HookAnswer",
    "Job",
    "NodeActivity",
    "Step",
    "Stream",
    "Value",
    "VizData",
    "connect",
    "connect_async",
    "iv",
]


def __getattr__(name: str) -> Any:
    if name == "iv":
        return importlib.import_module("circuit_client.iv")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"circuit_client.{home}"), name)
