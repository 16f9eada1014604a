"""What an agent author imports.

Names are loaded when they are first used, so that `import greenroom.agents` stays quick and an app pays only for the
parts it uses.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors
    from . import cli as cli, transcription as transcription
    from .agent import Agent as Agent
    from .conversation import (
        AgentState as AgentState,
        Conversation as Conversation,
        ConversationOptions as ConversationOptions,
        Turn as Turn,
        TurnState as TurnState,
        load_models as load_models,
    )
    from .job import (
        AutoSubscribe as AutoSubscribe,
        JobContext as JobContext,
        JobProcess as JobProcess,
        JobRequest as JobRequest,
    )
    from .options import (
        WorkerOptions as WorkerOptions,
        WorkerPermissions as WorkerPermissions,
        WorkerType as WorkerType,
    )
    from .transcriber import Transcriber as Transcriber
    from .worker import Worker as Worker

_EXPORTS = {
    "Agent": "agent",
    "AgentState": "conversation",
    "AutoSubscribe": "job",
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
