"""What a program may choose about a conversation, and the states that it shows."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["AgentState", "ConversationOptions"]


class AgentState(enum.StrEnum):
    """Published as attribute `lk.agent.state`, which official front ends show."""

    INITIALIZING = "initializing"
    IDLE = "idle"
    """Nobody is there to listen to."""
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


@dataclass(frozen=True, slots=True)
class ConversationOptions:
    allow_interruptions: bool = True
    """False: every answer is spoken to its end, and what is said meanwhile is answered afterwards."""
    interrupt_after: float = 0.25
    """Seconds of voice in one utterance after which the agent falls silent. Shorter noises do not disturb it."""
    preemptive: bool = True
    """Prepare the answer while it is still uncertain whether the speaker is done, and drop it when he goes on. The answer is
    heard sooner; a language model is asked more often."""
    max_history: int = 200
    """Messages kept for the language model, the instructions excluded."""
    instructions: str = ""
    """The system message for the language model."""
    apology: str = "I am sorry, something went wrong. Please try again."
    """Spoken when a provider fails; empty for silence."""
