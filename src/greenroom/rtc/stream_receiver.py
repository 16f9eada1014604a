"""Assembling incoming data streams from their packets."""

from __future__ import annotations

import asyncio
import inspect
import zlib
from typing import Any

from livekit.protocol import models

from .data_stream import (
    ByteStreamHandler,
    ByteStreamInfo,
    ByteStreamReader,
    IncomingStream,
    TextStreamHandler,
    TextStreamInfo,
    TextStreamReader,
    text_decoder,
)
from .errors import StreamError
from .event_emitter import handler_failed, handler_tasks
from .log import logger

DEFAULT_MAX_PAYLOAD = 5_000_000_000
MAX_UNREAD = 256 * 1024 * 1024
"""Bytes that may wait in one reader. A program that reads slower than the sender sends loses that stream."""
MAX_OPEN_STREAMS = 4096
INFLATE_STEP = 1 << 20


class _Incoming:
    """One open stream: who sends it, and what must hold for its next packet."""

    def __init__(
        self,
        info: TextStreamInfo | ByteStreamInfo,
        stream: IncomingStream[Any],
        sender: str,
        compressed: bool,
        max_payload: int,
    ) -> None:
        self.info = info
        self.stream = stream
        self.sender = sender
        self.next_chunk = 0
        self.received = 0
        self.max_payload = max_payload
        self.inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS) if compressed else None

    def feed(self, content: bytes) -> None:
        """Raises StreamError when the content is too much or not what its header says."""
        if self.inflater is None:
            self._take(content)
            return
        try:
            while content:
                self._take(self.inflater.decompress(content, INFLATE_STEP))
                content = self.inflater.unconsumed_tail
        except zlib.error as error:
            raise StreamError(f"stream {self.info.stream_id} cannot be decompressed: {error}") from None

    def _take(self, content: bytes) -> None:
        self.received += len(content)
        if self.received > self.max_payload:
            raise StreamError(f"stream {self.info.stream_id} exceeds {self.max_payload} bytes")
        self.stream.feed(content)
        if self.stream.unread > MAX_UNREAD:
            raise StreamError(f"stream {self.info.stream_id} has more than {MAX_UNREAD} unread bytes")

    def complete(self) -> StreamError | None:
        size = self.info.size
        if size is not None and self.received != size:
            return StreamError(f"stream {self.info.stream_id} ended after {self.received} of {size} bytes")
        return None


class StreamReceiver:
    """Routes stream packets of a room to the handlers of their topics."""

    def __init__(self, max_payload: int | None = None) -> None:
        self.text_handlers: dict[str, TextStreamHandler] = {}
        self.byte_handlers: dict[str, ByteStreamHandler] = {}
        self.max_payload = max_payload or DEFAULT_MAX_PAYLOAD
        self._open: dict[str, _Incoming] = {}

    def handle_header(self, header: models.DataStream.Header, sender: str) -> None:
        common: dict[str, Any] = {
            "stream_id": header.stream_id,
            "mime_type": header.mime_type,
            "topic": header.topic,
            "timestamp": header.timestamp,
            "size": header.total_length if header.HasField("total_length") else None,
            "attributes": dict(header.attributes),
        }
        kind = header.WhichOneof("content_header")
        handler: Any
        info: TextStreamInfo | ByteStreamInfo
        stream: IncomingStream[Any]
        reader: TextStreamReader | ByteStreamReader

        def forget() -> None:
            self._open.pop(header.stream_id, None)

        if kind == "text_header":
            handler = self.text_handlers.get(header.topic)
            text = IncomingStream(header.stream_id, text_decoder(), on_close=forget)
            info = TextStreamInfo(**common, attachments=list(header.text_header.attached_stream_ids))
            stream, reader = text, TextStreamReader(info, text)
        elif kind == "byte_header":
            handler = self.byte_handlers.get(header.topic)
            data = IncomingStream(header.stream_id, bytes, on_close=forget)
            info = ByteStreamInfo(**common, name=header.byte_header.name)
            stream, reader = data, ByteStreamReader(info, data)
        else:
            logger.warning("dropped a data stream without a content header from %r", sender)
            return
        if handler is None:
            logger.info("ignored a %s stream: no handler for topic %r", kind.removesuffix("_header"), header.topic)
            return
        if header.compression not in (
            models.DataStream.CompressionType.NONE,
            models.DataStream.CompressionType.DEFLATE_RAW,
        ):
            logger.warning("dropped a data stream with unknown compression %d from %r", header.compression, sender)
            return
        if header.stream_id in self._open or len(self._open) >= MAX_OPEN_STREAMS:
            logger.warning("dropped data stream %s of %r: in use, or too many open", header.stream_id, sender)
            return
        compressed = header.compression == models.DataStream.CompressionType.DEFLATE_RAW
        incoming = _Incoming(info, stream, sender, compressed, self.max_payload)
        if header.HasField("inline_content"):
            try:
                incoming.feed(header.inline_content)
                stream.end(incoming.complete())
            except StreamError as error:
                stream.end(error)
        else:
            self._open[header.stream_id] = incoming
        try:
            result = handler(reader, sender)
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            handler_failed(f"the stream handler of topic {header.topic!r}", error)
            return
        if inspect.iscoroutine(result):
            handler_tasks.start(result, f"the stream handler of topic {header.topic!r}")

    def handle_chunk(self, chunk: models.DataStream.Chunk, sender: str) -> None:
        incoming = self._open.get(chunk.stream_id)
        if incoming is None or incoming.sender != sender or chunk.chunk_index < incoming.next_chunk:
            return
        if chunk.chunk_index > incoming.next_chunk:
            missing = f"chunk {incoming.next_chunk} of stream {chunk.stream_id} was lost"
            self._close(chunk.stream_id, StreamError(missing))
            return
        incoming.next_chunk += 1
        try:
            incoming.feed(chunk.content)
        except StreamError as error:
            self._close(chunk.stream_id, error)

    def handle_trailer(self, trailer: models.DataStream.Trailer, sender: str) -> None:
        incoming = self._open.get(trailer.stream_id)
        if incoming is None or incoming.sender != sender:
            return
        info = incoming.info
        info.attributes = {**(info.attributes or {}), **trailer.attributes}
        error = incoming.complete()
        if trailer.reason:
            error = StreamError(f"stream {trailer.stream_id} was closed abnormally: {trailer.reason}")
        self._close(trailer.stream_id, error)

    def sender_left(self, identity: str) -> None:
        """End what this participant had open with an error."""
        for stream_id, incoming in list(self._open.items()):
            if incoming.sender == identity:
                self._close(stream_id, StreamError(f"{identity} left before stream {stream_id} ended"))

    def close(self) -> None:
        """The room is gone: end everything that is open with an error."""
        for stream_id in list(self._open):
            self._close(stream_id, StreamError(f"the room was disconnected before stream {stream_id} ended"))

    def _close(self, stream_id: str, error: StreamError | None) -> None:
        self._open.pop(stream_id).stream.end(error)
