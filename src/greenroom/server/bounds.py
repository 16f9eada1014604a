"""How much of everything one participant may have. What is over a bound is refused in the protocol's own words, or dropped
and counted; docs/server.md lists them all.

Rates are in `budgets`; what one description may hold is in `sdp.parse`, because that package knows nothing of the server.
"""

from __future__ import annotations

import re

__all__ = [
    "DEPLOYMENT",
    "MAX_ATTRIBUTES",
    "MAX_DATA_TRACKS",
    "MAX_DATA_TRACK_REQUEST",
    "MAX_JSON_MESSAGE",
    "MAX_LAYERS",
    "MAX_MALFORMED",
    "MAX_MESSAGE",
    "MAX_NAMED",
    "MAX_OWN_BYTES",
    "MAX_PENDING",
    "MAX_PERMISSIONS",
    "MAX_PUBLICATIONS",
    "MAX_ROOM_CONFIG",
    "MAX_SID",
    "MAX_STATE",
    "MAX_SUBSCRIPTIONS",
    "MAX_TRACK_REQUEST",
]

# One signalling connection.
MAX_MESSAGE = 2 * 1024 * 1024
"""Bytes of one message, and so of a description; longer ones end the connection."""
MAX_JSON_MESSAGE = 256 * 1024
"""The same for JSON, which costs about ten times as much to read."""
MAX_MALFORMED = 16
"""Messages that cannot be read before the connection is ended."""

# Agents.
DEPLOYMENT = re.compile(r"[^\s_]{0,64}")
"""What a deployment may be called, by a worker and by those who ask for it."""

# One participant.
MAX_ATTRIBUTES = 512
MAX_OWN_BYTES = 1024 * 1024
"""Of metadata, and of attributes, whatever is configured: a signalling message and a token must be able to carry them."""
MAX_ROOM_CONFIG = 128 * 1024
"""Bytes of the room configuration in a token, beside half of what metadata and attributes may have: it comes back with every
renewed token."""
MAX_PUBLICATIONS = 256
"""Published tracks. Everybody is told of each."""
MAX_PENDING = 20
"""More unanswered `AddTrackRequest`s than this are refused with LIMIT_EXCEEDED."""
MAX_TRACK_REQUEST = 16 * 1024
"""Bytes of an `AddTrackRequest`: everybody is sent what it says."""
MAX_LAYERS = 8
"""Layers, and codecs, of one track."""
MAX_STATE = 256 * 1024
"""Bytes of all `TrackInfo`s of a participant: everybody is sent them with every change."""
MAX_DATA_TRACKS = 256
MAX_DATA_TRACK_REQUEST = 2 * 1024
"""Bytes of a `PublishDataTrackRequest`: everybody is sent what it says."""
MAX_SUBSCRIPTIONS = 1000
"""Tracks that one participant receives at a time: a description has 1,024 sections."""
MAX_NAMED = 4096
"""Tracks that one subscriber may have wishes about; those that do not exist are forgotten first."""
MAX_SID = 64
"""Characters of a track's id in a request: ours have 16."""
MAX_PERMISSIONS = 1024
"""Entries of a `SubscriptionPermission`, and 16 times as many tracks in them."""
