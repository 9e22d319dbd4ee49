"""What a benchmark's results file says of the machine and of how busy it was."""

import datetime
import os
import pathlib
import platform

from tfpriv.runs import provenance


def before() -> dict:
    """Returns the head of a results file: date, processor, versions and the load so far."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores_of_the_machine": os.cpu_count(),
        "versions": provenance.versions(),
        "load_average_before": os.getloadavg(),
    }


def after() -> dict:
    """Returns what a results file says when all has been measured."""
    return {"load_average_after": os.getloadavg()}


def sentence_end(results: dict) -> str:
    """Returns the processor and the load of a results file, as the end of a sentence."""
    return (
        f"{results['processor']}, load average {results['load_average_before'][0]:.1f} before and "
        f"{results['load_average_after'][0]:.1f} after."
    )


def _processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
