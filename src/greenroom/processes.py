"""Processes that must not outlive those that started them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

PARENT = "GREENROOM_PARENT"
"""Environment: pid of the process that a worker must not outlive."""
READY_FD = "GREENROOM_READY_FD"
"""Environment: descriptor on which a worker says once that it is registered, by writing its id."""

PR_SET_PDEATHSIG = 1
"""`prctl(2)`, Linux."""


def die_with_parent(number: int = signal.SIGKILL, *, parent: int = 0) -> None:
    """Have the kernel send this process a signal when the thread that started it ends, however it ends.

    With `parent`, the pid of the process that should be there: when it is gone already, the signal comes at once.
    OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if parent and os.getppid() != parent:
        os.kill(os.getpid(), number)


def outlive_parent() -> None:
    """Undo `die_with_parent`."""
    die_with_parent(0)


def obey_parent() -> None:
    """End with the process that asked for it by `PARENT`, if any did."""
    parent = os.environ.pop(PARENT, "")
    if parent:
        die_with_parent(parent=int(parent))


def tell_ready(worker_id: str) -> bool:
    """Tell the process that asked for it by `READY_FD`, if any did: whether it was told. Twice is fine."""
    descriptor = os.environ.pop(READY_FD, "")
    if descriptor:
        with contextlib.suppress(BrokenPipeError):
            os.write(int(descriptor), worker_id.encode())
        os.close(int(descriptor))
    return bool(descriptor)
