"""Piper: natural voices, fast enough for any machine."""

from greenroom.plugins.piper.provider import Piper

__all__ = ["Piper"]
