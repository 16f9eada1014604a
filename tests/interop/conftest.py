"""What every test with the official client needs."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def official_rooms_are_forgotten() -> Iterator[None]:
    """The official client's rooms end with their test, not when the garbage collector comes by.

    Until then the room's peer connections keep the client's audio device going (livekit 1.2.1). When they are the last and are
    collected while the next room connects, that room gets a device that was ended, and is not begun again: its sound arrives,
    and nothing ever takes it out of the jitter buffer.
    """
    yield
    if _official_audio_device_runs():
        gc.collect()


def _official_audio_device_runs() -> bool:
    for task in Path("/proc/self/task").iterdir():
        try:
            if (task / "comm").read_text().startswith("SyntheticAudio"):
                return True
        except OSError:
            continue  # this thread has just ended
    return False
