"""What a program prints at its end."""

import os
import pathlib
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import TextIO

from tfpriv import rounding

WIDTH = 80
HEIGHT = 23  # of 24, as the shell's prompt takes one.


def format_summary(
    summary: Mapping, files: Iterable[str | os.PathLike], privacy_text: str = ""
) -> str:
    """Returns the summary of a run, for one screen of 80 columns by 24 lines.

    Args:
        summary: As in summary.json. In use are test_accuracy, test_rmse, those with baseline_,
            secure_ and plaintext_ before accuracy and rmse, test_loss, agreement, max_abs_error,
            bytes_sent, epsilon, epsilon_rdp, delta, privacy_unit, rounds or steps,
            seconds_per_round, seconds_per_step or seconds_per_batch, examples_per_second,
            wall_seconds, and model_parameters; what is missing or None is left out.
        files: What the run wrote. Each path takes a line, or, where that is too much for the
            screen, they stand in columns under their common folder.
        privacy_text: What the epsilon means, in words. What does not fit on the screen is cut,
            with a line that says where the whole is.

    Returns:
        Lines of plain text. They are wider than the screen only where a folder's name is, and more
        only where the files' names in columns do not fit on it.
    """
    results = _results(summary)
    meaning = _paragraphs(privacy_text)
    paths = [pathlib.Path(path) for path in files]
    listing = _list_in_lines(paths)
    if len(results) + len(meaning) + len(listing) > HEIGHT or _width(listing) > WIDTH:
        listing = _list_in_columns(paths)
    room = max(HEIGHT - len(results) - len(listing), 1)
    if len(meaning) > room:
        meaning = [*meaning[: room - 1], "  ... (the whole statement is in privacy.txt)"]
    return "\n".join([*results, *meaning, *listing])


def print_safely(text: str, stream: TextIO | None = None) -> None:
    """Prints `text`; a reader that has gone away, as in `| head -1`, is no error.

    Args:
        text: What to print, without the last newline.
        stream: Where to; standard output when None.
    """
    stream = sys.stdout if stream is None else stream
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        # What is still in the buffer would raise again when Python flushes it at its end.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def duration(seconds: float) -> str:
    """Returns a time for people: `0.0252 s`, `9.41 s`, `2 min 05 s` or `3 h 07 min`."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _results(summary):
    """Returns a line a result."""
    rows = []

    def add(title, name, show):
        if summary.get(name) is not None:
            rows.append((title, show(summary[name])))

    for title, name, form in (("accuracy", "accuracy", ".2%"), ("RMSE", "rmse", ".4g")):
        baseline = summary.get(f"baseline_{name}")
        constant = "" if baseline is None else f" (a constant answer: {baseline:{form}})"
        add(f"test {title}", f"test_{name}", lambda v, f=form, c=constant: f"{v:{f}}{c}")
    add("test loss", "test_loss", "{:.4g}".format)
    for name, show in (("accuracy", "{:.2%}".format), ("rmse", "{:.4g}".format)):
        add(
            f"{name} on shares",
            f"secure_{name}",
            lambda v, n=name, s=show: _on_shares(summary, n, v, s),
        )
    add("largest error", "max_abs_error", "{:.2g}".format)
    add("sent", "bytes_sent", lambda count: f"{count / 1e6:,.1f} MB by all parties")
    add("epsilon", "epsilon", lambda epsilon: f"{rounding.up(epsilon)}{_conditions(summary)}")
    if time := _time(summary):
        rows.append(("time", ", ".join(time)))
    add("model", "model_parameters", "{:,} parameters".format)
    width = max((len(title) for title, _ in rows), default=0)
    return [f"{title:{width}}  {text}" for title, text in rows]


def _on_shares(summary, name, value, show):
    """Returns a secure result beside its reference."""
    parts = []
    if summary.get(f"plaintext_{name}") is not None:
        parts.append(f"in plaintext {show(summary[f'plaintext_{name}'])}")
    if summary.get("agreement") is not None:
        parts.append(f"same answers {summary['agreement']:.2%}")
    return show(value) + (f" ({', '.join(parts)})" if parts else "")


def _conditions(summary):
    """Returns what an epsilon does not mean anything without."""
    text = ""
    if summary.get("delta") is not None:
        text += f" at delta {rounding.up(summary['delta'])}"
    if summary.get("privacy_unit") is not None:
        text += f", unit {summary['privacy_unit']}"
    if summary.get("epsilon_rdp") is not None:
        text += f" (by RDP {rounding.up(summary['epsilon_rdp'])})"
    return text


def _time(summary):
    parts = []
    if summary.get("wall_seconds") is not None:
        parts.append(duration(summary["wall_seconds"]))
    if summary.get("examples_per_second") is not None:
        parts.append(f"{summary['examples_per_second']:.4g} examples a second")
    for unit in ("round", "step", "batch"):
        if summary.get(f"{unit}s") is not None:
            parts.append(f"{summary[f'{unit}s']} {unit}s")
        if summary.get(f"seconds_per_{unit}") is not None:
            parts.append(f"{duration(summary[f'seconds_per_{unit}'])} a {unit}")
    return parts


def _paragraphs(text):
    """Returns `text` wrapped and set in, its own line breaks kept."""
    return [
        wrapped
        for line in text.strip().splitlines()
        if line.strip()
        for wrapped in textwrap.wrap(
            line.strip(),
            WIDTH,
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _list_in_lines(paths):
    return ["files", *(f"  {_shown(path)}" for path in paths)] if paths else []


def _list_in_columns(paths):
    if not paths:
        return []
    folder = pathlib.Path(os.path.commonpath([path.parent for path in paths]))
    names = [_shown(path)[len(_shown(folder)) :] for path in paths]
    cell = max(len(name) for name in names) + 2
    rows = -(-len(names) // max(1, (WIDTH - 2) // cell))
    lines = ["".join(f"  {name:{cell - 2}}" for name in names[row::rows]) for row in range(rows)]
    return [f"files in {_shown(folder)}", *(line.rstrip() for line in lines)]


def _shown(path):
    """Returns `path`, from the current folder where it lies in it, with / behind a folder."""
    current = pathlib.Path.cwd()
    shown = path.relative_to(current) if path.is_relative_to(current) else path
    return f"{shown}/" if path.is_dir() else str(shown)


def _width(lines):
    return max((len(line) for line in lines), default=0)
