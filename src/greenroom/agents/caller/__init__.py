"""The synthetic caller: a participant that speaks, listens and measures."""

from greenroom.agents.caller.call import Call, CallOptions
from greenroom.agents.caller.events import AgentFailure, CallEvent, CallResult, ExitCode, TurnResult
from greenroom.agents.caller.recording import Recording
from greenroom.agents.caller.script import Line

__all__ = [
    "AgentFailure",
    "Call",
    "CallEvent",
    "CallOptions",
    "CallResult",
    "ExitCode",
    "Line",
    "Recording",
    "TurnResult",
]
