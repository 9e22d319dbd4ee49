"""The one exception that a user is meant to read."""

import re

# Flags, but not in a command, which stands between backticks.
_FLAG = re.compile(r"(`[^`]*`)|--([a-z][a-z0-9_]*)")

_speaks_of_flags = False


def speak_of_flags() -> None:
    """Has all errors of this process name settings as flags, as programs do."""
    global _speaks_of_flags
    _speaks_of_flags = True


class UserError(ValueError):
    """Something the user asked for cannot be done.

    The message is one sentence that says what is wrong, with the value, and what to do. Programs
    print it after "error: " and exit with status 2, without a traceback. It is written with flags,
    such as --clip_norm=3; whoever calls the library reads of fields, clip_norm=3.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if _speaks_of_flags:
            return text
        return _FLAG.sub(lambda match: match[1] or match[2], text)
