"""What an application server imports: access tokens, webhook receiving and clients of the server's API.

Names follow the `livekit.api` package, so programs written for it run after changing the import. Protocol messages
(`CreateRoomRequest`, `RoomAgentDispatch`, ...) are reachable here too. Everything but tokens is imported on first use,
which keeps `import greenroom.api` light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .access_token import AccessToken, TokenVerifier
from .grants import AgentGrants, Claims, InferenceGrants, ObservabilityGrants, SIPGrants, VideoGrants

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors
    from livekit.protocol.agent import *
    from livekit.protocol.agent_dispatch import *
    from livekit.protocol.egress import *
    from livekit.protocol.ingress import *
    from livekit.protocol.models import *
    from livekit.protocol.room import *
    from livekit.protocol.sip import *
    from livekit.protocol.webhook import *

    from .client import LiveKitAPI as LiveKitAPI
    from .services import (
        AgentDispatchService as AgentDispatchService,
        EgressService as EgressService,
        IngressService as IngressService,
        RoomService as RoomService,
    )
    from .sip import SipService as SipService
    from .twirp import (
        ServerError as ServerError,
        ServerErrorCode as ServerErrorCode,
        SipCallError as SipCallError,
        TwirpError as TwirpError,
        TwirpErrorCode as TwirpErrorCode,
    )
    from .webhook import WebhookReceiver as WebhookReceiver

_LAZY = {
    "LiveKitAPI": ".client",
    "RoomService": ".services",
    "AgentDispatchService": ".services",
    "EgressService": ".services",
    "IngressService": ".services",
    "SipService": ".sip",
    "ServerError": ".twirp",
    "ServerErrorCode": ".twirp",
    "SipCallError": ".twirp",
    "TwirpError": ".twirp",
    "TwirpErrorCode": ".twirp",
    "WebhookReceiver": ".webhook",
}
_MESSAGES = ("agent_dispatch", "agent", "egress", "ingress", "models", "room", "webhook", "sip")

__all__ = [
    "AccessToken",
    "AgentDispatchService",
    "AgentGrants",
    "Claims",
    "EgressService",
    "InferenceGrants",
    "IngressService",
    "LiveKitAPI",
    "ObservabilityGrants",
    "RoomService",
    "SIPGrants",
    "ServerError",
    "ServerErrorCode",
    "SipCallError",
    "SipService",
    "TokenVerifier",
    "TwirpError",
    "TwirpErrorCode",
    "VideoGrants",
    "WebhookReceiver",
]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    if module := _LAZY.get(name):
        return getattr(importlib.import_module(module, __name__), name)
    for package in _MESSAGES:
        messages = importlib.import_module(f"livekit.protocol.{package}")
        if hasattr(messages, name):
            return getattr(messages, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
