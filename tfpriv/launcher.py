"""Starts a child on some of the cores, and lets the kernel end it with its parent.

`subprocess` offers to run code of one's own between fork and exec. In a process where TensorFlow,
gRPC or BLAS hold threads, such a fork can wait for ever for a lock that one of them held, and
gRPC's handlers of forks close what the parent goes on to use. So the child is this file, run by a
Python of its own, which does what is asked and becomes the program (20 ms).
"""

import errno
import os
import signal
import sys
from collections.abc import Collection, Sequence

_PR_SET_PDEATHSIG = 1


def command(
    arguments: Sequence[str],
    *,
    cores: Collection[int] | None = None,
    dies_with_parent: bool = False,
) -> list[str]:
    """Returns the command that starts a program under conditions.

    The program has the process id of the command.

    Args:
        arguments: The program and its arguments; one without a slash is searched for in PATH.
        cores: The numbers of the cores that it may use; the parent's when None.
        dies_with_parent: Whether the kernel kills it when the thread that starts it ends.

    Raises:
        OSError: A program that is named by its path cannot be executed.
    """
    program = arguments[0]
    if "/" in program and not os.access(program, os.X_OK):
        number = errno.EACCES if os.path.exists(program) else errno.ENOENT
        raise OSError(number, os.strerror(number), program)
    numbers = ",".join(map(str, cores or ()))
    parent = str(os.getpid()) if dies_with_parent else ""
    return [sys.executable, "-I", "-S", __file__, numbers, parent, *arguments]


def _become(cores, parent, *arguments):
    if cores:
        os.sched_setaffinity(0, map(int, cores.split(",")))
    if parent:
        import ctypes  # Of no use to who only wants the command.

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # It ended before prctl took hold.
            os._exit(1)
    # Python ignores these, and so would the program.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(arguments[0], arguments)
    except OSError as error:
        sys.exit(f"error: {arguments[0]} could not be started ({error}).")


if __name__ == "__main__":
    _become(*sys.argv[1:])
