"""A program that does not outlive its owner, however the owner ends."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence

__all__ = ["leash"]


def leash(command: Sequence[str], number: signal.Signals) -> list[str]:
    """Return *command* so that the kernel sends it this signal when its owner's thread has ended.

    See prctl(2), PR_SET_PDEATHSIG. Without util-linux's `setpriv` the command is as it was.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(command)
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--", *command]
