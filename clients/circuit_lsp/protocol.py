"""JSON-RPC with our own messages in it: typed parameters, structs, errors without tracebacks.

pygls turns the parameters of methods it does not know into namedtuples, and would rename whatever
is no identifier. So ours pass it by: they are decoded here, into the structs of `messages`.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from pygls.exceptions import JsonRpcException, JsonRpcInvalidParams
from pygls.protocol import JsonRPCNotification, JsonRPCRequestMessage, LanguageServerProtocol

from circuit_lsp.errors import as_circuit_error, response_error
from circuit_lsp.messages import METHODS, Message
from circuit_protocol.errors import Cancelled, CircuitError, ConnectError

log = logging.getLogger(__name__)

R = TypeVar("R")
P = TypeVar("P")


class CircuitProtocol(LanguageServerProtocol):
    """LSP, and the methods of `messages`."""

    def structure_message(self, data: dict[str, Any]) -> Any:
        """A message as pygls handles it; our own keep their parameters as they came."""
        if data.get("method") in METHODS and "jsonrpc" in data:
            params = data.get("params") or {}
            if "id" in data:
                return JsonRPCRequestMessage(data["id"], data["method"], data["jsonrpc"], params)
            return JsonRPCNotification(data["method"], data["jsonrpc"], params)
        return super().structure_message(data)

    def _serialize_message(self, data: Any) -> Any:
        if isinstance(data, msgspec.Struct):
            return msgspec.to_builtins(data)
        return super()._serialize_message(data)


def decode(method: str, params: Any) -> Any:
    """The parameters of one of our methods. Raises JsonRpcInvalidParams, saying which is wrong."""
    try:
        return msgspec.convert(params, METHODS[method].params)
    except msgspec.ValidationError as e:
        raise JsonRpcInvalidParams(f"{method}: {e}") from None


def answering(handler: Callable[..., Awaitable[R]]) -> Callable[..., Awaitable[R]]:
    """A handler whose errors become responses: ours with their code, defects with a name."""

    @functools.wraps(handler)
    async def answered(*args: Any) -> R:
        try:
            return await handler(*args)
        except JsonRpcException:
            raise
        except Cancelled:
            # Not by the editor, which would have cancelled this coroutine: the link hung up.
            lost = ConnectError(
                "the line to the daemon was lost before this was answered", hint="Ask again"
            )
            raise response_error(lost) from None
        except CircuitError as e:
            log.info("%s: %s", handler.__name__, e)
            raise response_error(e) from None
        except Exception as e:
            log.exception("%s failed", handler.__name__)
            raise response_error(as_circuit_error(e)) from None

    return answered


def quiet(handler: Callable[..., Awaitable[R | None]]) -> Callable[..., Awaitable[R | None]]:
    """A handler that nobody asked for by hand, like a hover: what goes wrong is an empty answer."""

    @functools.wraps(handler)
    async def answered(*args: Any) -> R | None:
        try:
            return await handler(*args)
        except Cancelled:
            return None
        except CircuitError as e:
            log.info("%s: %s", handler.__name__, e)
            return None
        except Exception:
            log.exception("%s failed", handler.__name__)
            return None

    return answered


def typed(
    method: str, handler: Callable[[P], Awaitable[Message]]
) -> Callable[[Any], Awaitable[Message]]:
    """`handler` as pygls calls it for `method`: with parameters not decoded yet."""

    async def decoded(params: Any) -> Message:
        return await handler(decode(method, params))

    decoded.__name__ = method
    return answering(decoded)
