"""Calls between participants: the types that users meet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar

from livekit.protocol import models


class RpcError(Exception):
    """What a call failed with. Raised in a handler it travels to the caller; codes 1001-1999 are the SDK's."""

    class ErrorCode(IntEnum):
        APPLICATION_ERROR = 1500
        CONNECTION_TIMEOUT = 1501
        RESPONSE_TIMEOUT = 1502
        RECIPIENT_DISCONNECTED = 1503
        RESPONSE_PAYLOAD_TOO_LARGE = 1504
        SEND_FAILED = 1505
        UNSUPPORTED_METHOD = 1400
        RECIPIENT_NOT_FOUND = 1401
        REQUEST_PAYLOAD_TOO_LARGE = 1402
        UNSUPPORTED_SERVER = 1403
        UNSUPPORTED_VERSION = 1404

    ErrorMessage: ClassVar[dict[ErrorCode, str]] = {
        ErrorCode.APPLICATION_ERROR: "Application error in method handler",
        ErrorCode.CONNECTION_TIMEOUT: "Connection timeout",
        ErrorCode.RESPONSE_TIMEOUT: "Response timeout",
        ErrorCode.RECIPIENT_DISCONNECTED: "Recipient disconnected",
        ErrorCode.RESPONSE_PAYLOAD_TOO_LARGE: "Response payload too large",
        ErrorCode.SEND_FAILED: "Failed to send",
        ErrorCode.UNSUPPORTED_METHOD: "Method not supported at destination",
        ErrorCode.RECIPIENT_NOT_FOUND: "Recipient not found",
        ErrorCode.REQUEST_PAYLOAD_TOO_LARGE: "Request payload too large",
        ErrorCode.UNSUPPORTED_SERVER: "RPC not supported by server",
        ErrorCode.UNSUPPORTED_VERSION: "Unsupported RPC version",
    }

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self._code = code
        self._message = message
        self._data = data

    @property
    def code(self) -> int:
        return self._code

    @property
    def message(self) -> str:
        return self._message

    @property
    def data(self) -> str | None:
        return self._data

    def __repr__(self) -> str:
        return f"RpcError(code={int(self._code)}, message={self._message!r})"


def built_in(code: RpcError.ErrorCode, data: str | None = None) -> RpcError:
    """The SDK's own error of that code."""
    return RpcError(code, RpcError.ErrorMessage[code], data)


def error_from_proto(error: models.RpcError) -> RpcError:
    return RpcError(error.code, error.message, error.data)


def error_to_proto(error: RpcError) -> models.RpcError:
    return models.RpcError(code=int(error.code), message=error.message, data=error.data or "")


@dataclass
class RpcInvocationData:
    """What a handler is called with.

    `response_timeout`: seconds that the caller waits. `cancel_reason`: set just before the handler is cancelled.
    """

    request_id: str
    caller_identity: str
    payload: str
    response_timeout: float
    method: str = ""
    cancel_reason: RpcError.ErrorCode | None = None


@dataclass
class RpcCallInfo:
    """An outgoing call, as interceptors see it."""

    destination_identity: str
    method: str
    payload: str
    response_timeout: float | None = None
    max_round_trip_latency: float | None = None


OutgoingRpcNext = Callable[[RpcCallInfo], Awaitable[str]]
IncomingRpcNext = Callable[[RpcInvocationData], Awaitable[str | None]]
RpcHandler = Callable[[RpcInvocationData], Any]


class RpcInterceptor:
    """Wraps calls. The one added first is the outermost; each must return or raise what `next` does."""

    async def intercept_outgoing(self, call: RpcCallInfo, next: OutgoingRpcNext) -> str:
        return await next(call)

    async def intercept_incoming(self, invocation: RpcInvocationData, next: IncomingRpcNext) -> str | None:
        return await next(invocation)


def chain_outgoing(interceptors: Sequence[RpcInterceptor], last: OutgoingRpcNext) -> OutgoingRpcNext:
    for interceptor in reversed(interceptors):

        async def step(
            call: RpcCallInfo, interceptor: RpcInterceptor = interceptor, after: OutgoingRpcNext = last
        ) -> str:
            return await interceptor.intercept_outgoing(call, after)

        last = step
    return last


def chain_incoming(interceptors: Sequence[RpcInterceptor], last: IncomingRpcNext) -> IncomingRpcNext:
    for interceptor in reversed(interceptors):

        async def step(
            invocation: RpcInvocationData, interceptor: RpcInterceptor = interceptor, after: IncomingRpcNext = last
        ) -> str | None:
            return await interceptor.intercept_incoming(invocation, after)

        last = step
    return last
