"""What a run took: memory and time."""

import os
import pathlib
import time

import psutil


def peak_memory_bytes() -> int:
    """Returns the most memory that this process and its living descendants ever held, in bytes.

    It is the sum of their own peaks (VmHWM, resident), which need not have come at the same
    moment: an upper bound of the peak of the sum. Call it while workers are still alive. The peaks
    that `resource.getrusage` gives would not do: they carry over from a parent to each child that
    it starts.
    """
    return sum(_peak_bytes(process.pid) for process in _family())


def seconds_since_process_start() -> float:
    """Returns the time since this process began, in seconds of real time, to 0.01 s.

    It counts from before Python's own start, so what imports take is in it.
    """
    # The fields after the program's name, which is in parentheses and may itself hold spaces.
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # proc(5): starttime, since boot
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def _family():
    this = psutil.Process()
    return [this, *this.children(recursive=True)]


def _peak_bytes(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # It ended just now.
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0  # A process that has ended and was not yet waited for holds nothing.
