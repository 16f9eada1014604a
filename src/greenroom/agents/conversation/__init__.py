"""The conversation engine: turns, voice, captions, interruptions."""

from greenroom.agents.captions import Captions
from greenroom.agents.conversation.engine import AgentState, Conversation, ConversationOptions, load_models
from greenroom.agents.conversation.turn import Stage, Turn, TurnState

__all__ = [
    "AgentState",
    "Captions",
    "Conversation",
    "ConversationOptions",
    "Stage",
    "Turn",
    "TurnState",
    "load_models",
]
