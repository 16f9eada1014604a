"""Greenroom: software participants in WebRTC calls."""

from __future__ import annotations

TYPE_CHECKING = False
"""True for type checkers. From `typing`, it would cost the first import most of its time, with Ctrl-C still a traceback."""

if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from greenroom._version import find_version

    version = globals()[name] = find_version()
    return version
