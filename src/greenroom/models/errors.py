"""What can go wrong with a model. The text of each is one sentence for a person, and says what to do."""

from __future__ import annotations

__all__ = ["CannotFetch", "MissingModel", "ModelError", "RegistryError", "UnknownModel", "WrongBytes"]


class ModelError(Exception):
    """A model cannot be had or used."""


class UnknownModel(ModelError):
    """No model of that name is declared."""


class MissingModel(ModelError):
    """The model is not on this machine, or only a part of it."""


class RegistryError(ModelError):
    """A file that declares models contradicts itself."""


class CannotFetch(ModelError):
    """One source has not given what it should; another one may."""


class WrongBytes(CannotFetch):
    """Something came, and it is not what was declared. It has been deleted."""
