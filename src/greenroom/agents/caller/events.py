"""What happens in a synthetic call, as values that a terminal prints and `--json` writes."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

__all__ = ["AgentFailure", "CallEvent", "CallResult", "ExitCode", "TurnResult"]


class ExitCode(enum.IntEnum):
    SUCCESS = 0
    AGENT_FAILED = 1
    """The agent's job ended with an error, or something in it raised."""
    USAGE = 2
    NOT_ANSWERED = 3
    """No agent came, it left before it answered anything, or a line was followed by silence of an agent that should speak."""
    NOT_UNDERSTOOD = 4
    """Every line was answered, or heard by an agent that does not speak, but what the agent understood was something else."""
    NOT_CONNECTED = 5
    """The server could not be reached, refused the token, or ended the call, or the agent left in the middle of it."""
    NO_SPEECH = 6
    """A speech provider is missing or failed on this machine."""


@dataclass(frozen=True, slots=True)
class AgentFailure:
    error: str
    identity: str
    """Of the agent."""


@dataclass(frozen=True, slots=True)
class CallEvent:
    """`kind`: connected, agent, say, understood, caption, heard, chat, state, turn, error or end.

    - `say`: the caller begins to speak `text`. `understood`: what the agent makes of it (captions of the caller's speech).
    - `caption`: what the agent says it says. `heard`: what the caller's own recogniser makes of the agent's audio.
    - `agent`: one is there; `values["listens"]` is None when it does not say whether it listens. `chat`: it, or somebody
      else (`values["identity"]`), writes.
    - `turn`: a line is over; `values` has the latencies in ms. `end`: the call is over; `values["exit_code"]`, and in
      `values["only_heard"]` whether the agent, named there, heard and does not speak.
    """

    kind: str
    at: float
    """Seconds since the caller began to connect."""
    text: str = ""
    final: bool = True
    segment: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"event": self.kind, "at": round(self.at, 3)}
        if self.text:
            out["text"] = self.text
        if self.kind in ("understood", "caption", "heard"):
            out["final"] = self.final
        return {**out, **self.values}


@dataclass(slots=True)
class TurnResult:
    said: str
    understood: str = ""
    captioned: bool = False
    """Whether the agent published captions of the caller's speech; otherwise nobody can tell what it understood."""
    answer: str = ""
    heard: str = ""
    latency_ms: int | None = None
    """End of the caller's speech to the first audible audio of the agent at the caller, playout included. None without an
    answer, and for one that overlaps the speech: such a figure would mean nothing."""
    overlaps: bool = False
    """The answer began before the line was over."""
    only_heard: bool = False
    """The agent published captions of the line, and does not speak: it has no voice and no state."""
    agent_ms: dict[str, int] = field(default_factory=dict)
    """The agent's own waterfall, when it reports one."""
    agreement: float | None = None

    @property
    def answered(self) -> bool:
        return self.latency_ms is not None or self.overlaps


@dataclass(slots=True)
class CallResult:
    exit_code: ExitCode
    turns: list[TurnResult] = field(default_factory=list)
    error: str = ""
