"""Sending whole texts, byte strings and files in the way that all receivers understand.

Receivers with client protocol 2 take a small payload inside the header, in one packet; those that also say
`CAP_COMPRESSION_DEFLATE_RAW` take it compressed. Everybody takes header, chunks and trailer.
"""

from __future__ import annotations

import asyncio
import mimetypes
import zlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

from livekit.protocol import models

from .data_stream import (
    STREAM_CHUNK_SIZE,
    ByteStreamInfo,
    ByteStreamWriter,
    TextStreamInfo,
    TextStreamWriter,
    new_stream_id,
    split_utf8,
)

if TYPE_CHECKING:
    from .local_participant import LocalParticipant

CLIENT_PROTOCOL_STREAMS_V2 = 2
FILE_READ_SIZE = 16 * STREAM_CHUNK_SIZE


def _receivers(local: LocalParticipant, destinations: list[str] | None) -> Iterable[models.ParticipantInfo | None]:
    remote = local._room_participants()
    if not destinations:
        return [participant._info for participant in remote.values()]
    return [remote[identity]._info if identity in remote else None for identity in destinations]


def takes_inline(local: LocalParticipant, destinations: list[str] | None) -> bool:
    """True when every receiver understands single-packet streams."""
    return all(
        info is not None and info.client_protocol >= CLIENT_PROTOCOL_STREAMS_V2
        for info in _receivers(local, destinations)
    )


def takes_compressed(local: LocalParticipant, destinations: list[str] | None) -> bool:
    """True when every receiver can inflate."""
    return takes_inline(local, destinations) and all(
        info is not None and models.ClientInfo.Capability.CAP_COMPRESSION_DEFLATE_RAW in info.capabilities
        for info in _receivers(local, destinations)
    )


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


async def _send_inline(writer: TextStreamWriter | ByteStreamWriter, data: bytes, deflated: bytes | None) -> bool:
    """Try to send the payload inside the header. False when it does not fit."""
    header = writer._header
    header.inline_content = data
    if deflated is not None and len(deflated) < len(data):
        header.inline_content = deflated
        header.compression = models.DataStream.CompressionType.DEFLATE_RAW
    packet = writer._packet(stream_header=header)
    if packet.ByteSize() <= STREAM_CHUNK_SIZE:
        await writer._participant._send_stream_packet(packet)
        return True
    header.ClearField("inline_content")
    header.ClearField("compression")
    return False


async def send_text(
    local: LocalParticipant,
    text: str,
    *,
    destination_identities: list[str] | None,
    topic: str,
    attributes: dict[str, str] | None,
    reply_to_id: str | None,
    compress: bool,
) -> TextStreamInfo:
    data = text.encode()
    writer = TextStreamWriter(
        local,
        topic=topic,
        attributes=attributes,
        total_size=len(data),
        reply_to_id=reply_to_id,
        destination_identities=destination_identities,
    )
    compress = compress and takes_compressed(local, destination_identities)
    deflated = _deflate(data) if compress else None
    if takes_inline(local, destination_identities) and await _send_inline(writer, data, deflated):
        return writer.info
    if deflated is not None:
        writer._header.compression = models.DataStream.CompressionType.DEFLATE_RAW
        pieces = [deflated[i : i + STREAM_CHUNK_SIZE] for i in range(0, len(deflated), STREAM_CHUNK_SIZE)]
    else:
        pieces = split_utf8(text)
    await writer._send_header()
    try:
        for piece in pieces:
            await writer._send_chunk(piece)
    except BaseException as error:
        writer._abort(error)
        raise
    await writer.aclose()
    return writer.info


async def send_bytes(
    local: LocalParticipant,
    data: bytes,
    *,
    name: str,
    mime_type: str,
    topic: str,
    destination_identities: list[str] | None,
    attributes: dict[str, str] | None,
    stream_id: str | None,
    compress: bool,
) -> ByteStreamInfo:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield data

    return await _send_byte_pieces(
        local, whole(), len(data), name, mime_type, topic, destination_identities, attributes, stream_id, compress
    )


async def send_file(
    local: LocalParticipant,
    file_path: str,
    *,
    topic: str,
    destination_identities: list[str] | None,
    attributes: dict[str, str] | None,
    stream_id: str | None,
    compress: bool,
) -> ByteStreamInfo:
    """OSError when the file cannot be read."""
    path = Path(file_path)
    size = (await asyncio.to_thread(path.stat)).st_size
    mime_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"

    async def pieces() -> AsyncGenerator[bytes, None]:
        with await asyncio.to_thread(path.open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, FILE_READ_SIZE):
                yield piece

    return await _send_byte_pieces(
        local, pieces(), size, path.name, mime_type, topic, destination_identities, attributes, stream_id, compress
    )


async def _send_byte_pieces(
    local: LocalParticipant,
    pieces: AsyncGenerator[bytes, None],
    size: int,
    name: str,
    mime_type: str,
    topic: str,
    destinations: list[str] | None,
    attributes: dict[str, str] | None,
    stream_id: str | None,
    compress: bool,
) -> ByteStreamInfo:
    writer = ByteStreamWriter(
        local,
        name=name,
        topic=topic,
        attributes=attributes,
        stream_id=stream_id or new_stream_id(),
        total_size=size,
        mime_type=mime_type,
        destination_identities=destinations,
    )
    compress = compress and takes_compressed(local, destinations)
    if size <= FILE_READ_SIZE and takes_inline(local, destinations):
        data = b"".join([piece async for piece in pieces])
        if await _send_inline(writer, data, _deflate(data) if compress else None):
            return writer.info

        async def again() -> AsyncGenerator[bytes, None]:
            yield data

        pieces = again()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS) if compress else None
    if deflater is not None:
        writer._header.compression = models.DataStream.CompressionType.DEFLATE_RAW
    await writer._send_header()
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                await writer.write(deflater.compress(piece) if deflater is not None else piece)
        if deflater is not None:
            await writer.write(deflater.flush())
    except BaseException as error:
        writer._abort(error)
        raise
    await writer.aclose()
    return writer.info
