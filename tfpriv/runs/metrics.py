"""metrics.csv: what was measured, a row a round or step."""

import csv
import io
import numbers
import os
import pathlib
from collections.abc import Mapping

from tfpriv import files
from tfpriv.errors import UserError
from tfpriv.runs.events import EventsWriter

FILE_NAME = "metrics.csv"


class MetricsWriter:
    """Writes metrics to metrics.csv and, beside it, to TensorBoard.

    The CSV file holds the step in its first column and then a column a metric, in the order in
    which they first came. A metric that was not measured at a step is blank there. The file is
    whole at every moment, whenever the process dies.
    """

    def __init__(self, directory: str | os.PathLike, step_name: str = "round") -> None:
        """Takes up the rows that metrics.csv in `directory` holds, if there is one.

        Args:
            directory: An existing directory.
            step_name: The name of the first column: `round` or `step`.

        Raises:
            UserError: if metrics.csv is there and is not one of ours.
        """
        self._path = pathlib.Path(directory) / FILE_NAME
        self._step_name = step_name
        self._columns: list[str] = []
        self._rows: dict[int, dict[str, float]] = {}
        self._lines: dict[int, str] = {}  # The rows as text, as all of them are written every time.
        self._events = EventsWriter(directory)
        if self._path.exists():
            counted, self._columns, self._rows = _read_rows(self._path)
            if counted != step_name:
                raise UserError(
                    f"{self._path} counts in {counted}s, this program in {step_name}s; give "
                    "another --output_dir."
                )
            self._format_all()

    @property
    def last_step(self) -> int | None:
        """The step of the last row; None when there are no rows."""
        return next(reversed(self._rows), None)

    def write(self, step: int, values: Mapping[str, float | None]) -> None:
        """Adds metrics at `step` and writes the files.

        Args:
            step: At least 0, and not before the last row's step. At the last row's own step the
                values join that row.
            values: Numbers by column name; None stands for not measured. A metric that is not
                finite is kept as it is (`nan`, `inf`), as divergence is a result.

        Raises:
            ValueError: if `step` lies before the last row, or a value is not a number.
        """
        step = int(step)
        last = self.last_step
        if step < 0 or (last is not None and step < last):
            raise ValueError(f"step {step} comes after step {last}; truncate first")
        if self._step_name in values:
            raise ValueError(f"{self._step_name!r} names the step and cannot be a metric")
        measured = {
            name: _number(name, value) for name, value in values.items() if value is not None
        }
        self._rows.setdefault(step, {}).update(measured)
        new = [name for name in values if name not in self._columns]
        if new:
            self._columns += new
            self._format_all()
        else:
            self._lines[step] = self._format(step)
        self._write_file()
        if measured:
            self._events.write(step, measured)

    def truncate(self, step: int) -> None:
        """Drops what was measured after `step`, as a run does that goes on from a checkpoint.

        Args:
            step: The checkpoint's step; -1 drops all rows.
        """
        self._rows = {kept: row for kept, row in self._rows.items() if kept <= step}
        self._columns = [
            name for name in self._columns if any(name in row for row in self._rows.values())
        ]
        self._format_all()
        self._write_file()
        self._events.purge_from(step + 1)

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._events.close()

    def _format_all(self):
        self._lines = {step: self._format(step) for step in self._rows}

    def _format(self, step):
        row = self._rows[step]
        return _csv_line([step, *(row.get(name, "") for name in self._columns)])

    def _write_file(self):
        header = _csv_line([self._step_name, *self._columns])
        files.write_text(self._path, header + "".join(self._lines.values()))


def read_metrics(path: str | os.PathLike) -> dict[str, list]:
    """Returns the columns of a metrics.csv.

    Args:
        path: The file.

    Returns:
        The columns by name, the step's first, each as long as there are rows: int or float, or
        None where the metric was not measured.

    Raises:
        UserError: if there is no such file, or it is not one of ours.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"there is no {path}; name the directory of a run that has metrics.")
    step_name, columns, rows = _read_rows(path)
    return {
        step_name: list(rows),
        **{name: [row.get(name) for row in rows.values()] for name in columns},
    }


def _read_rows(path):
    """Returns the step's name, the metrics' names, and the rows as {step: {metric: number}}."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            (step_name, *columns), *lines = csv.reader(file)
        rows = {}
        for step, *cells in lines:
            named = zip(columns, cells, strict=True)
            rows[int(step)] = {name: _parse(cell) for name, cell in named if cell}
        if len(rows) < len(lines) or list(rows) != sorted(rows):
            raise ValueError("its steps do not increase")
    except (ValueError, OSError, csv.Error) as error:
        raise UserError(
            f"{path} is not a metrics file as it was written ({error}); restore it, or start anew "
            "with another --output_dir."
        ) from error
    return step_name, columns, rows


def _number(name, value):
    if isinstance(value, numbers.Integral):  # numpy's too, and bool
        return int(value)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the metric {name!r} is not a number: {value!r}") from error


def _parse(cell):
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _csv_line(cells):
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue()
