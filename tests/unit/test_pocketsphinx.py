"""The recogniser's process, beside what the transcriber's tests see of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys


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
