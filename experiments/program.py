"""What all programs share: flags that become a config, and how a program ends."""

import dataclasses
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Mapping

from absl import flags, logging

from experiments import usage
from tfpriv import environment, errors, settings
from tfpriv.errors import UserError

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
# What is computed on shares is not what is computed in plaintext.
DISAGREES = 4


def define_flags(config_class: type) -> None:
    """Defines a flag for each setting of a config class, with the field's default."""
    for setting in settings.of(config_class):
        usage.note_setting(setting)
        if setting.choices and not setting.own:
            flags.DEFINE_enum(setting.name, setting.default, setting.choices, setting.help)
        else:
            define = {
                str: flags.DEFINE_string,
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                bool: flags.DEFINE_boolean,
            }[setting.kind]
            define(setting.name, setting.default, setting.help)


def config_from_flags(config_class: type):
    """Returns the config that the flags describe.

    With --resume and --output_dir, flags that are not given are those that the run began with.

    Raises:
        UserError: if the run began with code of the user's own and no flag names it now.
    """
    values = {
        field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(config_class)
    }
    if values.get("resume") and values.get("output_dir"):
        values |= _flags_of_run(config_class, values["output_dir"])
    return config_class(**values)


def _flags_of_run(config_class, output_dir):
    """Returns the flags of a run that the command line leaves out; none where there is no run."""
    from tfpriv import user_code
    from tfpriv.runs import run_directory  # Late: numpy, which they import, takes a while.

    path = pathlib.Path(output_dir).expanduser() / "config.json"
    if not path.exists():
        return {}
    kept = run_directory.RunDirectory.open(path.parent).config["flags"]
    left_out = {}
    for setting in settings.of(config_class):
        value = kept.get(setting.name)
        if (
            flags.FLAGS[setting.name].present
            or value is None
            or setting.name in run_directory.MAY_DIFFER
        ):
            continue
        may_be_code = setting.own or setting.name in ("dataset", "model")
        if may_be_code and user_code.is_user_code(str(value)):
            raise UserError(
                f"{path} names --{setting.name}={value}, which is code, and a run directory can "
                f"come from anybody; give --{setting.name}={value} to run it."
            )
        kinds = (int, float) if setting.kind is float else (setting.kind,)
        if not isinstance(value, kinds):
            raise UserError(
                f"{path} is damaged: --{setting.name} is {value!r}, which is no "
                f"{setting.kind.__name__}; restore it, or start the run anew."
            )
        left_out[setting.name] = value
    return left_out


def run(main: Callable[[], None], *, resumes: bool = False) -> None:
    """Runs a program: parses the flags, calls `main`, and ends with a sentence if it fails.

    The exit status is 0, 1 for a flag that does not exist, 2 for a UserError, 4 where answers on
    shares are not those in plaintext, 130 after Ctrl-C, or 143 after SIGTERM.

    Args:
        main: The program.
        resumes: Whether it can go on with what was interrupted.
    """
    environment.quiet_tensorflow()
    errors.speak_of_flags()
    # TFF and Keras log each checkpoint and each model that they write.
    logging.set_verbosity(logging.WARNING)
    # Not app.run: what TensorFlow's test utilities register with it resets TensorFlow's context
    # in the middle of the program, after which Keras takes graphs for eager code.
    usage.define_help()
    try:
        arguments = flags.FLAGS(sys.argv)
    except flags.UnrecognizedFlagError as error:
        _stop(f"--{error.flagname} is not a flag; {usage.of_unknown(error.flagname)}.", 1)
    except flags.Error as error:
        _stop(f"{str(error).rstrip('.')}; see --help.", 1)
    if len(arguments) > 1:
        _stop(f"{arguments[1]!r} is not a flag; write --name=value.", 2)
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Schedulers of clusters send it.
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        main()
    except _Terminated:
        _stop(f"ended by SIGTERM{_how_to_go_on() if resumes else ''}.", TERMINATED)
    except KeyboardInterrupt:
        _stop(f"interrupted{_how_to_go_on() if resumes else ''}.", INTERRUPTED)
    except UserError as error:
        _stop(str(error), 2)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Terminated(KeyboardInterrupt):
    """What SIGTERM raises: a run ends as by Ctrl-C."""


def _terminate(*_):
    raise _Terminated


def leave_if_results_disagree(summary: Mapping) -> None:
    """Warns and ends the program if the summary says that shares gave other answers."""
    if summary.get("disagreement"):
        sys.stdout.flush()
        _say(summary["disagreement"], "warning")
        sys.exit(DISAGREES)


def _how_to_go_on():
    """Returns the hint for what was interrupted; empty before there is a run."""
    given = flags.FLAGS["output_dir"].value
    if given:
        there = (pathlib.Path(given).expanduser() / "config.json").exists()
        return f"; go on with --resume --output_dir={given}" if there else ""
    made = [path for path in pathlib.Path("runs").glob("*") if _is_ours(path)]
    if made:
        return f"; go on with --resume --output_dir={made[0]}"
    return ""


def _is_ours(path):
    """Says whether a folder holds a run of this process."""
    from tfpriv import runs  # Late: numpy, which it imports, takes a while.
    from tfpriv.runs import lock

    try:
        locked = path / lock.FILE_NAME
        # Processes of other containers may have had our number.
        is_new = locked.stat().st_mtime > time.time() - runs.seconds_since_process_start()
        is_own = locked.read_text() == f"{os.getpid()}\n"
        return is_new and is_own and (path / "config.json").exists()
    except OSError:
        return False


def _stop(message, status):
    _say(message)
    sys.exit(status)


def _say(message, kind="error"):
    try:
        print(f"{kind}: {message}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _leave(*_):
    _say("interrupted.")
    # No exception: a compiled module that is being imported makes an error of its own of it.
    os._exit(INTERRUPTED)


def _is_starting():
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name.startswith(f"{__package__}.")


# Until `run`, a program imports what it needs, for a second; Ctrl-C would end that in a traceback.
# Where it is ignored, as in a shell's background, it stays so.
if _is_starting() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _leave)
