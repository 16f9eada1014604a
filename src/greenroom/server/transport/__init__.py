"""Negotiation of peer connections: descriptions in, descriptions out, the native core told what follows."""

from .answerer import Answer, Answerer
from .offerer import Offerer
from .peer import PeerConnection

__all__ = ["Answer", "Answerer", "Offerer", "PeerConnection"]
