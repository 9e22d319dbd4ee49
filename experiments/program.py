"""What all programs share: flags that become a config, and how a program ends."""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping

from absl import app, flags, logging

from tfpriv import environment
from tfpriv.errors import UserError

INTERRUPTED = 128 + signal.SIGINT


@dataclasses.dataclass(frozen=True)
class Help:
    """A flag's help text, its choices if it has some, and the type of its value."""

    text: str
    choices: tuple[str, ...] | None = None
    kind: type = str


def define_flags(config_class: type, helps: Mapping[str, Help]) -> None:
    """Defines a flag for each field of a config class, with the field's default.

    Args:
        config_class: A dataclass.
        helps: By field; every field must be there.
    """
    for field in dataclasses.fields(config_class):
        help_ = helps[field.name]
        if help_.choices:
            flags.DEFINE_enum(field.name, field.default, help_.choices, help_.text)
        else:
            define = {
                str: flags.DEFINE_string,
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                bool: flags.DEFINE_boolean,
            }[help_.kind]
            define(field.name, field.default, help_.text)


def config_from_flags(config_class: type):
    """Returns the config that the flags describe."""
    return config_class(
        **{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(config_class)}
    )


def run(main: Callable[[], None], *, resumes: bool = False) -> None:
    """Runs a program: parses the flags, calls `main`, and ends with a sentence if it fails.

    The exit status is 0, 1 for a flag that does not exist, 2 for a UserError, or 130 after Ctrl-C.

    Args:
        main: The program.
        resumes: Whether it can go on with what was interrupted.
    """
    environment.quiet_tensorflow()
    # TFF and Keras log each checkpoint and each model that they write.
    logging.set_verbosity(logging.WARNING)
    # Not app.run: what TensorFlow's test utilities register with it resets TensorFlow's context
    # in the middle of the program, after which Keras takes graphs for eager code.
    app.define_help_flags()
    arguments = app.parse_flags_with_usage(sys.argv)
    if len(arguments) > 1:
        _stop(f"{arguments[1]!r} is not a flag; write --name=value.", 2)
    try:
        main()
    except KeyboardInterrupt:
        hint = "; go on with --resume and the same flags" if resumes else ""
        _stop(f"interrupted{hint}.", INTERRUPTED)
    except UserError as error:
        _stop(str(error), 2)


def _stop(message, status):
    try:
        print(f"error: {message}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(status)
