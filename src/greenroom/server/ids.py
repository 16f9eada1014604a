"""Names and numbers of things: public ids as LiveKit writes them, integers for the native core."""

from __future__ import annotations

import itertools
import secrets
import string

from livekit.protocol import models

__all__ = ["NativeIds", "data_track_sid", "ice_pwd", "ice_ufrag", "new_id", "new_ssrc", "track_sid"]

ALPHABET = string.ascii_letters + string.digits
RANDOM_LENGTH = 12

SOURCE_LETTERS = {
    models.TrackSource.CAMERA: "C",
    models.TrackSource.MICROPHONE: "M",
    models.TrackSource.SCREEN_SHARE: "S",
    models.TrackSource.SCREEN_SHARE_AUDIO: "s",
}
TYPE_LETTERS = {models.TrackType.AUDIO: "A", models.TrackType.VIDEO: "V"}


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def new_id(prefix: str) -> str:
    """`RM_`, `PA_`, ... and 12 random letters and digits."""
    return f"{prefix}_{_random(RANDOM_LENGTH)}"


def track_sid(kind: models.TrackType, source: models.TrackSource) -> str:
    """`TR_` with letters for type and source, such as `TR_AM` for a microphone."""
    return f"TR_{TYPE_LETTERS.get(kind, 'X')}{SOURCE_LETTERS.get(source, '')}{_random(RANDOM_LENGTH)}"


def data_track_sid() -> str:
    return new_id("DTR")


def ice_ufrag() -> str:
    """Unique enough to name the peer in a STUN check (RFC 8445 5.3 asks for 24 bits at least)."""
    return _random(16)


def ice_pwd() -> str:
    return _random(32)


def new_ssrc(taken: set[int]) -> int:
    """A random SSRC that `taken` does not hold; it is added there."""
    while True:
        ssrc = 1 + secrets.randbelow((1 << 32) - 1)
        if ssrc not in taken:
            taken.add(ssrc)
            return ssrc


class NativeIds:
    """Integers that name rooms, peers and tracks in the native core: unique in the process, never used again."""

    def __init__(self) -> None:
        self._counter = itertools.count(1)

    def __call__(self) -> int:
        return next(self._counter)
