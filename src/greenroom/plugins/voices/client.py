"""The side of a job: one connection to the voice's process per sentence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from greenroom.agents.speech.protocols import ProviderError
from greenroom.plugins import shared_process
from greenroom.plugins.voices.server import HEADER, LENGTH, MAX_TEXT

__all__ = ["MODULE", "speech"]

MODULE = "greenroom.plugins.voices.server"
TIMEOUT = 30.0
"""Seconds to wait for more sound, the loading of a network that died included."""


async def speech(
    name: str, configuration: dict[str, Any], text: str, options: dict[str, Any] | None = None
) -> AsyncGenerator[bytes]:
    """PCM of the text. Closing the iterator stops the work. Raises ProviderError."""
    connection = await asyncio.to_thread(shared_process.connect, name, MODULE, configuration)
    connection.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        body = json.dumps({"text": text[:MAX_TEXT], "options": options or {}}).encode()
        writer.write(LENGTH.pack(len(body)) + body)
        while True:
            async with asyncio.timeout(TIMEOUT):
                kind, length = HEADER.unpack(await reader.readexactly(HEADER.size))
                body = await reader.readexactly(length)
            if kind == b"z":
                return
            if kind == b"e":
                raise ProviderError(body.decode())
            yield body
    except TimeoutError:
        raise ProviderError(f"the {name} process gave no sound within {TIMEOUT:g} s") from None
    except (asyncio.IncompleteReadError, OSError):
        raise ProviderError(f"the {name} process ended in the middle of a sentence") from None
    finally:
        writer.close()
