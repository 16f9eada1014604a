"""What an agent author imports.

Names are loaded when they are first used, so that `import greenroom.agents` stays quick and an app pays only for the
parts it uses.
"""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Agent": "agent",
    "AgentState": "conversation",
    "AutoSubscribe": "options",
    "Conversation": "conversation",
    "ConversationOptions": "conversation",
    "JobContext": "job",
    "JobProcess": "job",
    "JobRequest": "job",
    "Worker": "worker",
    "WorkerOptions": "options",
    "WorkerPermissions": "options",
    "WorkerType": "options",
    "Transcriber": "transcriber",
    "Turn": "conversation",
    "TurnState": "conversation",
    "load_models": "conversation",
}
_MODULES = ("cli", "transcription")

__all__ = [*_EXPORTS, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
