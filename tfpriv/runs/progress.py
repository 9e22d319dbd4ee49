"""How far a run has come, while it runs."""

import collections
import math
import os
import statistics
import sys
import time
from typing import TextIO

from tfpriv import rounding
from tfpriv.runs.terminal import duration

_BAR_FORMAT = "{unit} {n_fmt}/{total_fmt} |{bar}| {desc}"
_REDRAW_SECONDS = 0.1
_LINE_SECONDS = 30.0
_LINE_SHARE = 0.1
_RECENT_STEPS = 20


class Progress:
    """A progress bar over rounds or steps, with the accuracy and the epsilon so far.

    On a terminal it is a bar that redraws itself. Elsewhere it is a plain line every tenth of the
    way or every 30 seconds, whichever comes first, and at the end. A reader that goes away does not
    stop the run. Use it as a context manager, so that what is printed later starts on a new line.
    """

    def __init__(
        self,
        total: int,
        *,
        initial: int = 0,
        unit: str = "round",
        stream: TextIO | None = None,
    ) -> None:
        """Starts at `initial`.

        Args:
            total: The number of steps of the whole run.
            initial: How many of them were done before, by the run that this one resumes.
            unit: What is counted: `round` or `step`.
            stream: Where to write; standard error when None.
        """
        self._total = total
        self._unit = unit
        self._step = initial
        self._values: dict[str, float | None] = {}
        # Seconds a step.
        self._recent: collections.deque[float] = collections.deque(maxlen=_RECENT_STEPS)
        self._last_update = time.monotonic()
        self._last_shown = self._last_update
        self._shown_step = initial
        self._stream = _Forgiving(sys.stderr if stream is None else stream)
        self._bar = None
        if self._stream.is_screen():
            import tqdm

            self._bar = tqdm.tqdm(
                total=total,
                initial=initial,
                unit=unit,
                file=self._stream,
                dynamic_ncols=True,
                bar_format=_BAR_FORMAT,
                mininterval=0,
            )

    def update(self, step: int, **values: float | None) -> None:
        """Says that `step` steps of the whole are done.

        Args:
            step: How many steps are done, those before `initial` among them.
            **values: What to show, such as `accuracy=0.91, epsilon=1.4`. A value stays until it is
                given again; None leaves it as it is.
        """
        now = time.monotonic()
        if step > self._step:
            self._recent.append((now - self._last_update) / (step - self._step))
        self._last_update = now
        self._step = step
        for name, value in values.items():
            self._values[name] = self._values.get(name) if value is None else value
        if self._is_due(now):
            self._show(now)

    def close(self) -> None:
        """Shows the last state, and leaves it standing."""
        if self._shown_step != self._step:
            self._show(time.monotonic())
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _is_due(self, now):
        if self._bar is not None:
            return now - self._last_shown >= _REDRAW_SECONDS
        return (
            self._step - self._shown_step >= _LINE_SHARE * self._total
            or now - self._last_shown >= _LINE_SECONDS
            or self._step == self._total
        )

    def _show(self, now):
        self._last_shown = now
        self._shown_step = self._step
        state = ", ".join([*self._state(), *self._pace()])
        if self._bar is None:
            self._stream.write(f"{self._unit} {self._step}/{self._total}: {state}\n")
            self._stream.flush()
        else:
            self._bar.n = self._step
            self._bar.set_description_str(state, refresh=True)

    def _state(self):
        return [f"{name} {_short(name, v)}" for name, v in self._values.items() if v is not None]

    def _pace(self):
        if not self._recent:
            return []
        # The median passes over the first step, which compiles, and over those that evaluate.
        seconds = statistics.median(self._recent)
        pace = [f"{duration(seconds)}/{self._unit}"]
        left = self._total - self._step
        return [*pace, f"{duration(round(left * seconds))} left"] if left > 0 else pace


class _Forgiving:
    """A stream that drops what can no longer be written: progress is not worth a run."""

    def __init__(self, stream) -> None:
        self._stream = stream  # None where the program was started without standard error.

    def write(self, text):
        self._try("write", text)

    def flush(self):
        self._try("flush")

    def is_screen(self):
        """Says whether it is a terminal that has a width; some of containers have none."""
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (AttributeError, OSError, ValueError):  # None, no terminal, or closed.
            return False
        return columns > 0

    def __getattr__(self, name):
        return getattr(self._stream, name)  # tqdm asks for the encoding and the file's number.

    def _try(self, method, *arguments):
        if self._stream is None:
            return
        try:
            getattr(self._stream, method)(*arguments)
        except (OSError, ValueError):
            self._stream = None


def _short(name, value):
    value = float(value)
    if name == "epsilon":
        return rounding.up(value)
    return f"{value:.3f}" if math.isfinite(value) and abs(value) < 100 else f"{value:.3g}"
