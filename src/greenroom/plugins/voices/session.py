"""A network in onnxruntime, on few processors and without burning them while it waits."""

from __future__ import annotations

from typing import Any

from greenroom.agents.speech.protocols import MissingProvider, ProviderError
from greenroom.extras import install_command

__all__ = ["open_session", "require_onnxruntime"]


def require_onnxruntime() -> None:
    """Raises MissingProvider without it."""
    import importlib.util

    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingProvider("onnxruntime, which runs the voice,", install_command("speech"))


def open_session(data: bytes | str, threads: int) -> Any:
    """An inference session over the bytes of a network or the file of that name. Raises ProviderError for what is none."""
    require_onnxruntime()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait in a loop for the next operator take the processor from whoever else speaks or listens.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its exceptions are of several kinds that have nothing but Exception in common.
        raise ProviderError(f"onnxruntime cannot load the voice: {error}") from error
