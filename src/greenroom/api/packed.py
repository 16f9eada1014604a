"""Long claims in few bytes: metadata, attributes and room configuration of a token that a server renewed.

A token travels in one line of HTTP. As plain JSON inside base64, metadata of the size that a server accepts can take six
times its bytes, and a participant whose metadata was accepted could not come back. Packed (protobuf, deflated, base64) they
take at most 16/9 of their bytes together with the token's own base64, and mostly much less.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .grants import Claims

__all__ = ["pack", "unpack"]

MAX_UNPACKED = 8 * 1024 * 1024
LENGTH_BYTES = 4
LEVEL = 1
"""Of zlib: fast, because a token is renewed with every change."""


def pack(claims: Claims) -> Claims:
    """A copy that says the same with `packed` in the place of its long claims."""
    from livekit.protocol.models import ParticipantInfo

    info = ParticipantInfo(metadata=claims.metadata, attributes=claims.attributes or {}).SerializeToString()
    config = claims.room_config.SerializeToString() if claims.room_config is not None else b""
    raw = len(info).to_bytes(LENGTH_BYTES) + info + config
    packed = base64.b64encode(zlib.compress(raw, LEVEL)).decode()
    return dataclasses.replace(claims, metadata="", attributes=None, room_config=None, packed=packed)


def unpack(claims: Claims) -> Claims:
    """The reverse. ValueError when it was not packed here."""
    from google.protobuf.message import DecodeError
    from livekit.protocol.models import ParticipantInfo
    from livekit.protocol.room import RoomConfiguration

    try:
        decompressor = zlib.decompressobj()
        raw = decompressor.decompress(base64.b64decode(claims.packed, validate=True), MAX_UNPACKED)
        if not decompressor.eof:
            raise ValueError("claim packed is cut short or too long")
        end = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES])
        info = ParticipantInfo.FromString(raw[LENGTH_BYTES:end])
        config = RoomConfiguration.FromString(raw[end:]) if raw[end:] else None
    except (binascii.Error, zlib.error, DecodeError) as error:
        raise ValueError(f"claim packed: {error}") from error
    return dataclasses.replace(
        claims, metadata=info.metadata, attributes=dict(info.attributes), room_config=config, packed=""
    )
