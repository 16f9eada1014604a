"""Kokoro: a network of 82 million parameters with many voices, for machines that keep up with it."""

from greenroom.plugins.kokoro.provider import Kokoro, measure

__all__ = ["Kokoro", "measure"]
