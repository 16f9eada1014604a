"""Carrying calls: packets for old clients (v1), text streams for those with client protocol 1 or more (v2).

Acknowledgements and errors are packets in both. A request goes the way its receiver understands, a response the way its
caller does.
"""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from livekit.protocol import models

from greenroom.tasks import Tasks

from .data_stream import TextStreamReader
from .errors import PublishDataError, StreamError
from .log import logger
from .rpc import (
    RpcCallInfo,
    RpcError,
    RpcHandler,
    RpcInterceptor,
    RpcInvocationData,
    built_in,
    chain_incoming,
    chain_outgoing,
    error_from_proto,
    error_to_proto,
)
from .stream_sender import send_text

if TYPE_CHECKING:
    from .local_participant import LocalParticipantCore
    from .stream_receiver import StreamReceiver

REQUEST_TOPIC = "lk.rpc_request"
RESPONSE_TOPIC = "lk.rpc_response"
ATTRIBUTE_ID = "lk.rpc_request_id"
ATTRIBUTE_METHOD = "lk.rpc_request_method"
ATTRIBUTE_TIMEOUT = "lk.rpc_request_response_timeout_ms"
ATTRIBUTE_VERSION = "lk.rpc_request_version"
CLIENT_PROTOCOL_RPC_V2 = 1
MAX_V1_PAYLOAD = 15 * 1024
DEFAULT_RESPONSE_TIMEOUT = 15.0
DEFAULT_ROUND_TRIP = 7.0
MAX_RUNNING = 1000
"""Invocations that run at once; more are answered with an error."""
MAX_RUNNING_OF_ONE = 250
"""The same for one caller, so that nobody takes all places."""
MAX_REQUEST_TIME = 60.0
"""Seconds in which a request must have arrived; less when its caller does not wait so long."""
MAX_RESPONSE_TIMEOUT = 24 * 3600.0
CLOSE_TIMEOUT = 2.0
TOO_MANY = "too many calls are running here"

_Code = RpcError.ErrorCode


class _Call:
    """A call that waits for its acknowledgement, then for its response."""

    def __init__(self, destination: str, loop: asyncio.AbstractEventLoop) -> None:
        self.destination = destination
        self.acknowledged: asyncio.Future[None] = loop.create_future()
        self.response: asyncio.Future[str] = loop.create_future()
        self.reader: TextStreamReader | None = None
        """Of the response, while it arrives."""

    def fail(self, error: RpcError) -> None:
        if not self.response.done():
            self.response.set_exception(error)
            self.response.exception()
        if not self.acknowledged.done():
            self.acknowledged.set_result(None)

    def succeed(self, payload: str) -> None:
        if not self.response.done():
            self.response.set_result(payload)
        if not self.acknowledged.done():
            self.acknowledged.set_result(None)


class RpcManager:
    def __init__(self, local: LocalParticipantCore, streams: StreamReceiver) -> None:
        self._local = local
        self.handlers: dict[str, RpcHandler] = {}
        self.interceptors: list[RpcInterceptor] = []
        self._calls: dict[str, _Call] = {}
        self._tasks = Tasks(logger)
        """Invocations and refusals."""
        self._running: Counter[str] = Counter()
        """Invocations by their callers."""
        self._handling: dict[asyncio.Task[Any], asyncio.Task[Any] | None] = {}
        """Handlers that run, and the invocations they run for."""
        self._leaving = False
        self._refusing = 0
        self.dropped = 0
        """Calls that not even an error was sent for: too many errors were under way."""
        streams.text_handlers[REQUEST_TOPIC] = self._on_request_stream
        streams.text_handlers[RESPONSE_TOPIC] = self._on_response_stream

    # --- calling ---------------------------------------------------------------------------------------------------

    async def perform(self, call: RpcCallInfo) -> str:
        return await chain_outgoing(self.interceptors, self._perform)(call)

    async def _perform(self, call: RpcCallInfo) -> str:
        timeout = DEFAULT_RESPONSE_TIMEOUT if call.response_timeout is None else call.response_timeout
        round_trip = DEFAULT_ROUND_TRIP if call.max_round_trip_latency is None else call.max_round_trip_latency
        loop = asyncio.get_running_loop()
        request_id = str(uuid.uuid4())
        pending = self._calls[request_id] = _Call(call.destination_identity, loop)
        deadline = loop.time() + timeout
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._send_request(call, request_id, timeout)
            except TimeoutError:
                raise built_in(_Code.CONNECTION_TIMEOUT) from None
            wait = min(round_trip, max(0.0, deadline - loop.time()))
            done, _ = await asyncio.wait([pending.acknowledged], timeout=wait)
            if not done:
                raise built_in(_Code.CONNECTION_TIMEOUT if round_trip < timeout else _Code.RESPONSE_TIMEOUT)
            answered, _ = await asyncio.wait([pending.response], timeout=max(0.0, deadline - loop.time()))
            if not answered:
                raise built_in(_Code.RESPONSE_TIMEOUT)
            return pending.response.result()
        finally:
            self._calls.pop(request_id, None)
            if pending.reader is not None:
                pending.reader.close()

    async def _send_request(self, call: RpcCallInfo, request_id: str, timeout: float) -> None:
        timeout_ms = max(1, int(timeout * 1000))
        try:
            if self._leaving:
                raise built_in(_Code.SEND_FAILED, "the room is being left")
            if self._speaks_v2(call.destination_identity):
                await send_text(
                    self._local,
                    call.payload,
                    destination_identities=[call.destination_identity],
                    topic=REQUEST_TOPIC,
                    attributes={
                        ATTRIBUTE_ID: request_id,
                        ATTRIBUTE_METHOD: call.method,
                        ATTRIBUTE_TIMEOUT: str(timeout_ms),
                        ATTRIBUTE_VERSION: "2",
                    },
                    reply_to_id=None,
                    compress=True,
                )
                return
            if len(call.payload.encode()) > MAX_V1_PAYLOAD:
                raise built_in(_Code.REQUEST_PAYLOAD_TOO_LARGE)
            request = models.RpcRequest(
                id=request_id, method=call.method, payload=call.payload, response_timeout_ms=timeout_ms, version=1
            )
            await self._send(call.destination_identity, rpc_request=request)
        except (PublishDataError, StreamError) as error:
            raise built_in(_Code.SEND_FAILED, str(error)) from error

    def handle_ack(self, ack: models.RpcAck) -> None:
        call = self._calls.get(ack.request_id)
        if call is not None and not call.acknowledged.done():
            call.acknowledged.set_result(None)

    def handle_response(self, response: models.RpcResponse) -> None:
        call = self._calls.get(response.request_id)
        if call is None:
            return
        if response.WhichOneof("value") == "error":
            call.fail(error_from_proto(response.error))
        else:
            call.succeed(response.payload)

    async def _on_response_stream(self, reader: TextStreamReader, sender: str) -> None:
        call = self._calls.get((reader.info.attributes or {}).get(ATTRIBUTE_ID, ""))
        if call is None or call.destination != sender:
            reader.close()
            return
        if call.reader is not None:
            reader.close()  # a call has one response
            return
        call.reader = reader
        try:
            call.succeed(await reader.read_all())
        except StreamError as error:
            call.fail(built_in(_Code.APPLICATION_ERROR, str(error)))

    def participant_left(self, identity: str) -> None:
        for call in list(self._calls.values()):
            if call.destination == identity:
                call.fail(built_in(_Code.RECIPIENT_DISCONNECTED))

    # --- being called ----------------------------------------------------------------------------------------------

    def handle_request(self, request: models.RpcRequest, sender: str) -> None:
        if self._has_place(request.id, sender):
            self._start(self._answer_packet(request, sender), request.id, sender)

    def _on_request_stream(self, reader: TextStreamReader, sender: str) -> None:
        request_id = (reader.info.attributes or {}).get(ATTRIBUTE_ID, "")
        if self._has_place(request_id, sender):
            self._start(self._answer_stream(reader, sender), request_id, sender)
        else:
            reader.close()

    def _has_place(self, request_id: str, sender: str) -> bool:
        """Whether one more may run. Who is refused is told so."""
        if self._leaving:
            logger.debug("a call of %r came too late: the room is being left", sender)
            return False
        running = self._running.total()
        if running < MAX_RUNNING and self._running[sender] < MAX_RUNNING_OF_ONE:
            return True
        logger.warning("refused a call of %r: %d are running", sender, running)
        if self._refusing >= MAX_RUNNING or not request_id:
            self.dropped += 1
            return False
        self._refusing += 1
        self._tasks.start(self._refuse(request_id, sender), f"refuse rpc {request_id}").add_done_callback(self._refused)
        return False

    def _refused(self, _: asyncio.Task[None]) -> None:
        self._refusing -= 1

    async def _refuse(self, request_id: str, sender: str) -> None:
        invocation = RpcInvocationData(request_id, sender, "", DEFAULT_RESPONSE_TIMEOUT, "")
        await self._answer(invocation, built_in(_Code.APPLICATION_ERROR, TOO_MANY))

    def _start(self, answer: Coroutine[Any, Any, None], request_id: str, sender: str) -> None:
        self._running[sender] += 1
        self._tasks.start(answer, f"rpc {request_id}").add_done_callback(lambda _: self._ended(sender))

    def _ended(self, sender: str) -> None:
        self._running[sender] -= 1
        if not self._running[sender]:
            del self._running[sender]

    async def _answer_packet(self, request: models.RpcRequest, sender: str) -> None:
        invocation = RpcInvocationData(
            request.id, sender, request.payload, _bounded(request.response_timeout_ms), request.method
        )
        error = None if request.version == 1 else built_in(_Code.UNSUPPORTED_VERSION)
        await self._answer(invocation, error)

    async def _answer_stream(self, reader: TextStreamReader, sender: str) -> None:
        attributes = reader.info.attributes or {}
        request_id = attributes.get(ATTRIBUTE_ID, "")
        try:
            timeout = _bounded(int(attributes.get(ATTRIBUTE_TIMEOUT, "")))
        except ValueError:
            timeout = DEFAULT_RESPONSE_TIMEOUT
        if not request_id:
            logger.warning("dropped a call without an id from %r", sender)
            reader.close()
            return
        invocation = RpcInvocationData(request_id, sender, "", timeout, attributes.get(ATTRIBUTE_METHOD, ""))
        error = None
        if attributes.get(ATTRIBUTE_VERSION) != "2":
            error = built_in(_Code.UNSUPPORTED_VERSION)
            reader.close()
        await self._answer(invocation, error, reader)

    async def _answer(
        self, invocation: RpcInvocationData, error: RpcError | None, reader: TextStreamReader | None = None
    ) -> None:
        """Acknowledge, run the handler, respond. Nothing escapes: what cannot be sent is logged."""
        caller = invocation.caller_identity
        try:
            await self._send(caller, rpc_ack=models.RpcAck(request_id=invocation.request_id))
            payload = ""
            if error is None:
                try:
                    if reader is not None:
                        invocation.payload = await self._read_request(reader, invocation)
                    payload = await self._invoke(invocation)
                    if len(payload.encode()) > MAX_V1_PAYLOAD and not self._speaks_v2(caller):
                        raise built_in(_Code.RESPONSE_PAYLOAD_TOO_LARGE)
                except RpcError as raised:
                    error = raised
                except StreamError as broken:
                    logger.warning("call %s of %r: %s", invocation.method, caller, broken)
                    error = built_in(_Code.APPLICATION_ERROR, str(broken))
            if error is None and self._speaks_v2(caller):
                await send_text(
                    self._local,
                    payload,
                    destination_identities=[caller],
                    topic=RESPONSE_TOPIC,
                    attributes={ATTRIBUTE_ID: invocation.request_id},
                    reply_to_id=None,
                    compress=True,
                )
                return
            response = models.RpcResponse(request_id=invocation.request_id)
            if error is not None:
                response.error.CopyFrom(error_to_proto(error))
            else:
                response.payload = payload
            await self._send(caller, rpc_response=response)
        except (PublishDataError, StreamError) as failed:
            logger.warning("could not answer call %s of %r: %s", invocation.method, caller, failed)

    @staticmethod
    async def _read_request(reader: TextStreamReader, invocation: RpcInvocationData) -> str:
        """The whole payload. RpcError when it does not come in time: an open stream holds a place."""
        try:
            async with asyncio.timeout(min(invocation.response_timeout, MAX_REQUEST_TIME)):
                return await reader.read_all()
        except TimeoutError:
            raise built_in(_Code.RESPONSE_TIMEOUT, "the request did not arrive in time") from None
        finally:
            reader.close()

    async def _invoke(self, invocation: RpcInvocationData) -> str:
        """The handler's result. RpcError in every case of failure."""
        chain = chain_incoming(self.interceptors, self._run_handler)
        task = asyncio.ensure_future(chain(invocation))
        self._handling[task] = asyncio.current_task()
        task.add_done_callback(lambda task: self._handling.pop(task, None))
        try:
            done, _ = await asyncio.wait([task], timeout=invocation.response_timeout)
        except asyncio.CancelledError:
            invocation.cancel_reason = _Code.RECIPIENT_DISCONNECTED
            task.cancel()
            raise
        if not done:
            invocation.cancel_reason = _Code.RESPONSE_TIMEOUT
            task.cancel()
            task.add_done_callback(lambda t: t.cancelled() or t.exception())
            raise built_in(_Code.RESPONSE_TIMEOUT)
        try:
            return task.result() or ""
        except RpcError:
            raise
        except asyncio.CancelledError:
            raise built_in(_Code.APPLICATION_ERROR) from None
        except Exception as failed:
            logger.error(
                "the handler of RPC method %r failed; the caller gets APPLICATION_ERROR",
                invocation.method,
                exc_info=failed,
            )
            raise built_in(_Code.APPLICATION_ERROR) from failed

    async def _run_handler(self, invocation: RpcInvocationData) -> str | None:
        handler = self.handlers.get(invocation.method)
        if handler is None:
            raise built_in(_Code.UNSUPPORTED_METHOD)
        result = handler(invocation)
        if inspect.isawaitable(result):
            result = await result
        if result is not None and not isinstance(result, str):
            raise TypeError(f"an RPC handler returns str or None, not {type(result).__name__}")
        return result

    # --- both ------------------------------------------------------------------------------------------------------

    def _speaks_v2(self, identity: str) -> bool:
        participant = self._local.room.remotes.get(identity)
        return participant is not None and participant.info.client_protocol >= CLIENT_PROTOCOL_RPC_V2

    async def _send(self, destination: str, **content: Any) -> None:
        await self._local.send_packet(
            models.DataPacket(
                kind=models.DataPacket.RELIABLE,
                participant_identity=self._local.identity,
                destination_identities=[destination],
                **content,
            )
        )

    def refuse_calls(self) -> None:
        """The room is being left: nobody calls and nobody is called any more, until `close`."""
        self._leaving = True

    def answering(self, besides: asyncio.Task[Any] | None = None) -> bool:
        """Whether a call is being answered here. The one whose handler is the task `besides` does not count."""
        own = self._handling.get(besides) if besides is not None else None
        return any(task is not own for task in self._tasks)

    async def close(self) -> None:
        """Fail what waits, cancel what runs. When the room is connected again, new ones may run."""
        self._leaving = False
        for call in list(self._calls.values()):
            call.fail(built_in(_Code.RECIPIENT_DISCONNECTED))
        ending, self._tasks = self._tasks, Tasks(logger)
        await ending.aclose(CLOSE_TIMEOUT)


def _bounded(milliseconds: int) -> float:
    """Seconds that a caller waits: it says so itself, and may say nonsense."""
    return min(milliseconds / 1000, MAX_RESPONSE_TIMEOUT) if milliseconds > 0 else DEFAULT_RESPONSE_TIMEOUT
