"""Processes that must not outlive those that started them."""

from __future__ import annotations

import ctypes
import os
import signal

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
