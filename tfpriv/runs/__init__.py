"""What a run leaves behind and shows: its directory, metrics, progress, pictures and summary.

Nothing here imports TensorFlow, and matplotlib only where a picture is drawn.
"""

from tfpriv.runs import coins, sampling_key, seal, trajectory
from tfpriv.runs.metrics import MetricsWriter, read_metrics
from tfpriv.runs.plots import drawing, plot_metric, plot_run
from tfpriv.runs.progress import Progress
from tfpriv.runs.resources import peak_memory_bytes, seconds_since_process_start
from tfpriv.runs.resumption import return_to
from tfpriv.runs.run_directory import RunDirectory
from tfpriv.runs.terminal import format_summary, print_safely

__all__ = [
    "MetricsWriter",
    "Progress",
    "RunDirectory",
    "coins",
    "drawing",
    "format_summary",
    "peak_memory_bytes",
    "plot_metric",
    "plot_run",
    "print_safely",
    "read_metrics",
    "return_to",
    "sampling_key",
    "seal",
    "seconds_since_process_start",
    "trajectory",
]
