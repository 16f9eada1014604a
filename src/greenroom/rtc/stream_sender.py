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
    OutgoingStream,
    TextStreamInfo,
    byte_info,
    split_bytes,
    split_utf8,
    text_info,
)

if TYPE_CHECKING:
    from .local_participant import LocalParticipantCore

CLIENT_PROTOCOL_STREAMS_V2 = 2
FILE_READ_SIZE = 16 * STREAM_CHUNK_SIZE


def _receivers(local: LocalParticipantCore, destinations: list[str] | None) -> Iterable[models.ParticipantInfo | None]:
    remote = local.room.remotes
    if not destinations:
        return [participant.info for participant in remote.values()]
    return [remote[identity].info if identity in remote else None for identity in destinations]


def takes_inline(local: LocalParticipantCore, destinations: list[str] | None) -> bool:
    """True when every receiver understands single-packet streams."""
    return all(
        info is not None and info.client_protocol >= CLIENT_PROTOCOL_STREAMS_V2
        for info in _receivers(local, destinations)
    )


def takes_compressed(local: LocalParticipantCore, destinations: list[str] | None) -> bool:
    """True when every receiver can inflate."""
    return takes_inline(local, destinations) and all(
        info is not None and models.ClientInfo.Capability.CAP_COMPRESSION_DEFLATE_RAW in info.capabilities
        for info in _receivers(local, destinations)
    )


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush()


async def _send_inline(
    local: LocalParticipantCore, stream: OutgoingStream, data: bytes, deflated: bytes | None
) -> bool:
    """Try to send the payload inside the header. False when it does not fit."""
    header = stream.header
    header.inline_content = data
    if deflated is not None and len(deflated) < len(data):
        header.inline_content = deflated
        header.compression = models.DataStream.CompressionType.DEFLATE_RAW
    packet = stream.packet(stream_header=header)
    if packet.ByteSize() <= STREAM_CHUNK_SIZE:
        await local.send_stream_packet(packet)
        return True
    header.ClearField("inline_content")
    header.ClearField("compression")
    return False


async def send_text(
    local: LocalParticipantCore,
    text: str,
    *,
    destination_identities: list[str] | None,
    topic: str,
    attributes: dict[str, str] | None,
    reply_to_id: str | None,
    compress: bool,
) -> TextStreamInfo:
    data = text.encode()
    info = text_info(topic, attributes, len(data))
    stream = OutgoingStream(local, info, destination_identities, reply_to_id=reply_to_id)
    compress = compress and takes_compressed(local, destination_identities)
    deflated = _deflate(data) if compress else None
    if takes_inline(local, destination_identities) and await _send_inline(local, stream, data, deflated):
        return info
    if deflated is not None:
        stream.header.compression = models.DataStream.CompressionType.DEFLATE_RAW
    await stream.open()
    try:
        await stream.write(split_bytes(deflated) if deflated is not None else split_utf8(text))
    except BaseException as error:
        stream.abort(error)
        raise
    await stream.close()
    return info


async def send_bytes(
    local: LocalParticipantCore,
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
    local: LocalParticipantCore,
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
    local: LocalParticipantCore,
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
    info = byte_info(name, mime_type, topic, attributes, size, stream_id)
    stream = OutgoingStream(local, info, destinations)
    compress = compress and takes_compressed(local, destinations)
    if size <= FILE_READ_SIZE and takes_inline(local, destinations):
        data = b"".join([piece async for piece in pieces])
        if await _send_inline(local, stream, data, _deflate(data) if compress else None):
            return info

        async def again() -> AsyncGenerator[bytes, None]:
            yield data

        pieces = again()
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS) if compress else None
    if deflater is not None:
        stream.header.compression = models.DataStream.CompressionType.DEFLATE_RAW
    await stream.open()
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                await stream.write(split_bytes(deflater.compress(piece) if deflater is not None else piece))
        if deflater is not None:
            await stream.write(split_bytes(deflater.flush()))
    except BaseException as error:
        stream.abort(error)
        raise
    await stream.close()
    return info
