"""What a program says of its flags: --help in groups, and a flag that does not exist."""

import difflib
import shutil
import sys
import textwrap

from absl import flags

from tfpriv import settings

# What other tools call a setting, and what it may be called here.
_ELSEWHERE = {
    "batch_size": ("expected_batch_size",),
    "clients": ("num_clients", "clients_per_round"),
    "eps": ("target_epsilon",),
    "epsilon": ("target_epsilon",),
    "l2_norm_clip": ("clip_norm",),
    "learning_rate": ("client_learning_rate",),
    "local_epochs": ("client_epochs",),
    "lr": ("learning_rate", "client_learning_rate"),
    "max_grad_norm": ("clip_norm",),
    "num_epochs": ("epochs", "client_epochs"),
    "num_rounds": ("rounds",),
    "sigma": ("noise_multiplier",),
}
_OTHERS = "Flags"

_settings = {}


def note_setting(setting: settings.Setting) -> None:
    """Remembers under which heading the help has a setting's flag, and what may be named there."""
    _settings[setting.name] = setting


class _Help(flags.BooleanFlag):
    """--help, which prints and ends."""

    def __init__(self):
        super().__init__("help", False, "Say what the program does and takes.", short_name="h")

    def parse(self, arg):
        if self._parse(arg):
            from tfpriv import runs  # Late: numpy, which it imports, takes a while.

            runs.print_safely(of_main())
            sys.exit(0)


def define_help() -> None:
    """Defines --help and -h, once."""
    if "help" not in flags.FLAGS:
        flags.DEFINE_flag(_Help())


def of_main() -> str:
    """Returns what --help prints: the program's docstring, and its flags by group."""
    width = min(shutil.get_terminal_size().columns, 100)
    groups: dict[str, list[flags.Flag]] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0]):
        group = _settings[flag.name].group if flag.name in _settings else _OTHERS
        groups.setdefault(group, []).append(flag)
    lines = [(sys.modules["__main__"].__doc__ or "").strip(), ""]
    for group in sorted(groups, key=lambda name: name == _OTHERS):
        lines.append(f"{group}:")
        for flag in groups[group]:
            lines += _lines(flag, width)
        lines.append("")
    lines += ["--flagfile=FILE reads flags from a file, one a line."]
    return "\n".join(lines)


def of_unknown(name: str) -> str:
    """Returns what there is in the place of a flag that does not exist, for a message."""
    near = [other for other in _ELSEWHERE.get(name, ()) if other in flags.FLAGS]
    near = near or difflib.get_close_matches(name, list(flags.FLAGS), n=2, cutoff=0.75)
    listed = " or ".join(f"--{other}" for other in near)
    return f"here it is {listed}" if listed else "see --help"


def _lines(flag, width):
    kind = flag.parser.syntactic_help
    values = getattr(flag.parser, "enum_values", None)
    setting = _settings.get(flag.name)
    if values:
        value = "|".join(values)
    elif setting and setting.choices and setting.own:
        value = "|".join([*setting.choices, "FILE.py:FUNCTION"])
    elif flag.boolean:
        value = ""
    else:
        value = "X" if "number" in kind else "N" if "integer" in kind else "TEXT"
    text = flag.help.split(">: ", 1)[1] if values and flag.help.startswith("<") else flag.help
    if flag.default is not None and flag.default is not False and flag.default != "":
        default = flag.default if not isinstance(flag.default, list) else ",".join(flag.default)
        text = f"{text} [{default}]"
    head = f"  --{flag.name}" + (f"={value}" if value else "")
    return [
        *textwrap.wrap(head, width, subsequent_indent="      ", break_on_hyphens=False),
        *textwrap.wrap(text, width, initial_indent="      ", subsequent_indent="      "),
    ]
