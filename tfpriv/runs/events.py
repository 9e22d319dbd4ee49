"""Scalars for TensorBoard, written without TensorFlow."""

import os
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter


class EventsWriter:
    """Writes scalars to an events file in a directory, which TensorBoard reads.

    The file is made at the first write. Its name holds no host name, unlike TensorFlow's own. It
    is a log: records are appended, and TensorBoard passes over a last one that is cut off.
    """

    def __init__(self, directory: str | os.PathLike) -> None:
        """Prepares to write into `directory`; a process of its own gets a file of its own."""
        self._directory = pathlib.Path(directory)
        self._writer: RecordWriter | None = None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Appends scalars at `step`, so that they survive the death of this process."""
        from tensorboard.compat.proto import summary_pb2

        summary = summary_pb2.Summary(
            value=[
                summary_pb2.Summary.Value(tag=name, simple_value=float(value))
                for name, value in values.items()
            ]
        )
        self._append(step=step, summary=summary)

    def purge_from(self, step: int) -> None:
        """Tells TensorBoard to forget what earlier files hold for `step` and later steps."""
        from tensorboard.compat.proto import event_pb2

        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._append(step=step, session_log=start)

    def close(self) -> None:
        """Closes the file; a later write opens a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _append(self, **event):
        # TensorBoard is imported at the first record, as its protocol buffers take 0.15 s.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._writer is None:
            self._writer = RecordWriter(_new_file(self._directory))
            version = event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2")
            self._writer.write(version.SerializeToString())
        record = event_pb2.Event(wall_time=time.time(), **event)
        self._writer.write(record.SerializeToString())
        self._writer.flush()


def _new_file(directory):
    """Opens a new events file, whose name sorts after those of earlier processes."""
    # TensorBoard reads the files of a directory in the order of their names.
    number = len(list(directory.glob("events.out.tfevents.*")))
    return open(directory / f"events.out.tfevents.{number:03}", "xb")
