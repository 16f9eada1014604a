"""Greenroom: software participants in WebRTC calls."""

__version__ = "0.1.0"
