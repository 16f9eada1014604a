"""The rule-based brain: the language provider that needs no model, no key and no network."""

from greenroom.plugins.rules.arithmetic import ArithmeticAnswer, solve
from greenroom.plugins.rules.brain import RuleBrain

__all__ = ["ArithmeticAnswer", "RuleBrain", "solve"]
