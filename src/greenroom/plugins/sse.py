"""Server-sent events, read from bytes as they come: any line ends, split characters, comments, events of several lines.

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass

__all__ = ["MAX_EVENT", "ServerEvent", "events"]

MAX_EVENT = 1 << 20
"""Bytes of one event. ValueError for longer ones."""

_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")
"""A carriage return at the very end may be the first half of a pair."""


@dataclass(frozen=True, slots=True)
class ServerEvent:
    name: str
    """What `event:` says; "message" otherwise."""
    data: bytes


async def events(chunks: AsyncIterable[bytes]) -> AsyncIterator[ServerEvent]:
    """Events with data, in order. What the last blank line is missing for counts too: servers forget it."""
    name, data = "", bytearray()
    async for line in _lines(chunks):
        if not line:
            if data:
                yield ServerEvent(name or "message", bytes(data[:-1]))
            name = ""
            data.clear()
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data += value + b"\n"
            if len(data) > MAX_EVENT:
                raise ValueError(f"an event is longer than {MAX_EVENT} bytes")
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    if data:
        yield ServerEvent(name or "message", bytes(data[:-1]))


async def _lines(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    rest, first = b"", True
    async for chunk in chunks:
        rest += chunk
        begin = 0
        for match in _LINE_END.finditer(rest):
            line = rest[begin : match.start()]
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
            first, begin = False, match.end()
        rest = rest[begin:]
        if len(rest) > MAX_EVENT:
            raise ValueError(f"a line is longer than {MAX_EVENT} bytes")
    for line in rest.rstrip(b"\r").split(b"\r"):
        if line:
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
