"""What the conversation is made of below the conversation: provider protocols, endpointing, sentences."""

from greenroom.agents.speech.endpointing import Endpointer, EndpointingOptions, SpeechEdge
from greenroom.agents.speech.protocols import (
    LLM,
    STT,
    TTS,
    VAD,
    ChatMessage,
    MissingProvider,
    ProviderError,
    STTStream,
    Transcript,
    VADStream,
)
from greenroom.agents.speech.sentences import SentenceSplitter

__all__ = [
    "LLM",
    "STT",
    "TTS",
    "VAD",
    "ChatMessage",
    "Endpointer",
    "EndpointingOptions",
    "MissingProvider",
    "ProviderError",
    "STTStream",
    "SentenceSplitter",
    "SpeechEdge",
    "Transcript",
    "VADStream",
]
