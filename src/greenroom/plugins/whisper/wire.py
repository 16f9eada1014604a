"""The messages between a stream and the process that decodes: a header, then two parts.

From the client: `F` (a text that somebody waits for) or `P` (a partial text, dropped when
something newer comes from the same client), a number, options as JSON, int16 audio at 16 kHz. `C` takes a request back that
waits.
To the client, with the request's number: `r` the result as JSON, `s` skipped, `e` an error in words.
"""

from __future__ import annotations

import struct

__all__ = ["HEADER", "MAX_AUDIO_SECONDS"]

HEADER = struct.Struct("<cIII")
"""Kind, number, length of the options or of the answer, length of the audio."""
MAX_AUDIO_SECONDS = 600.0
"""Of one request."""
