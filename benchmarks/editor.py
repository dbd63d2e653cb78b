"""An editor for the benchmarks: `circuit lsp` as a process, JSON-RPC over its pipes, one thread."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

Message = dict[str, Any]


class Editor:
    """One server. What it tells without being asked waits in `told` until it is looked for."""

    def __init__(self, endpoint: str, **settings: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "circuit_client", "lsp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ids = iter(range(1, 1 << 30))
        self._told: list[Message] = []
        options = {"endpoint": endpoint, **settings}
        self.ask("initialize", {"capabilities": {}, "initializationOptions": options})
        self.tell("initialized", {})

    def ask(self, method: str, params: Any) -> Any:
        """The result of a request. Raises RuntimeError with the error it ended in."""
        request_id = next(self._ids)
        self._send({"id": request_id, "method": method, "params": params})
        while (message := self._receive()).get("id") != request_id or "method" in message:
            self._keep(message)
        if "error" in message:
            raise RuntimeError(message["error"]["message"])
        return message["result"]

    def tell(self, method: str, params: Any) -> None:
        """A notification."""
        self._send({"method": method, "params": params})

    def heard(self, method: str, **wanted: Any) -> Message:
        """The parameters of the next notification `method` whose fields have these values."""

        def fits(message: Message) -> bool:
            return message.get("method") == method and all(
                message["params"].get(name) == value for name, value in wanted.items()
            )

        for i, message in enumerate(self._told):
            if fits(message):
                return self._told.pop(i)["params"]
        while not fits(message := self._receive()):
            self._keep(message)
        return message["params"]

    def forget(self) -> None:
        """Look at nothing that was told so far."""
        self._told.clear()

    def _keep(self, message: Message) -> None:
        if "method" in message:
            self._told.append(message)

    def _send(self, message: Message) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _receive(self) -> Message:
        assert self._process.stdout is not None
        length = 0
        while (line := self._process.stdout.readline()) != b"\r\n":
            if not line:
                raise RuntimeError("the language server ended")
            if line.startswith(b"Content-Length:"):
                length = int(line.split(b":")[1])
        return json.loads(self._process.stdout.read(length))

    def close(self) -> None:
        """Say good-bye and wait."""
        self.ask("shutdown", None)
        self.tell("exit", None)
        self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self._process.kill()
