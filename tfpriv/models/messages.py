"""Shortens the errors of a user's code to a line for our own messages."""

import re

# What Keras and TensorFlow wrap around the cause of an error in a layer.
_WRAPPING = re.compile(r"(\w+: )?Exception encountered when calling|.*in user code:$|File \"")
_CAUSE = re.compile(r"\w*(Error|Exception): ")


def first_line(error: BaseException) -> str:
    """Returns an error's type and the line of its message that says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    lines = [line for line in lines if line and not _WRAPPING.match(line)]
    causes = [line for line in lines if _CAUSE.match(line)]
    if causes:
        return causes[0].rstrip(".")
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"
