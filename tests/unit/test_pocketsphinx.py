"""The recogniser's process, beside what the transcriber's tests see of it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys

import pytest

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins import pocketsphinx
from greenroom.plugins.pocketsphinx_server import HEADER


def test_it_ends_quietly_when_its_user_goes_while_the_models_are_loaded():
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading, writing = os.pipe()
    os.close(reading)
    with control, theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "greenroom.plugins.pocketsphinx_server", str(theirs.fileno())],
            stdin=subprocess.PIPE,
            stdout=writing,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        )
        os.close(writing)
        _, errors = process.communicate(b'["what time is it"]', timeout=60)
    assert (process.returncode, errors) == (0, b"")


async def test_what_was_pushed_faster_than_it_is_said_gets_that_time_besides(monkeypatch):
    """With a fake for the process, which answers later than it may."""
    pytest.importorskip("pocketsphinx")
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(pocketsphinx, "_connect", lambda phrases: theirs)
    monkeypatch.setattr(pocketsphinx, "FINISH_TIMEOUT", 0.05)
    stream = pocketsphinx.PocketSphinx().stream()
    with ours:
        with pytest.raises(ProviderError, match="no text within"):
            await stream.finish()
    ours, theirs = socket.socketpair()
    with ours:
        stream.push(bytes(30 * pocketsphinx.BYTES_PER_SECOND))
        final = asyncio.create_task(stream.finish())
        await asyncio.wait([final], timeout=0.2)
        body = json.dumps({"text": "yes", "alternatives": []}).encode()
        ours.sendall(HEADER.pack(b"f", len(body)) + body)
        assert (await final).text == "yes"
        await stream.aclose()
