"""Writes docs/flags.md, the flags of all programs, from the settings of their configs.

python -m experiments.flags_page
"""

import itertools
import pathlib

from absl import flags

from experiments import secure_evaluation
from tfpriv import audit, central, federated, files, secure, settings

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "flags.md"

_CONFIGS = {
    "federated": federated.FederatedConfig,
    "central": central.CentralConfig,
    "audit": audit.AuditConfig,
    "secure_inference": secure.InferenceConfig,
    "secure_training": secure.SecureTrainingConfig,
}
_KINDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def text() -> str:
    """Returns the page."""
    lines = [
        "# Flags",
        "",
        "Written from the configs by `python -m experiments.flags_page`. Each flag is a field of",
        "the config class that is named. A flag that has no meaning under the other choices is an",
        "error.",
    ]
    for program, config in _CONFIGS.items():
        lines += ["", f"## python -m experiments.{program}", "", f"`{_public_name(config)}`"]
        for group, members in itertools.groupby(
            sorted(settings.of(config), key=lambda s: _groups(config).index(s.group)),
            key=lambda s: s.group,
        ):
            lines += ["", f"### {group}", "", "| flag | values | default | |", "| --- " * 4 + "|"]
            lines += [_row(setting) for setting in members]
        if program in ("federated", "central"):
            lines += ["", "### After training", "", "| flag | |", "| --- | --- |"]
            for flag in flags.FLAGS.get_key_flags_for_module(secure_evaluation):
                lines.append(f"| `--{flag.name}` | {_cell(flag.help)} |")
    return "\n".join(lines) + "\n"


def _public_name(config):
    return f"tfpriv.{config.__module__.split('.')[1]}.{config.__name__}"


def _groups(config):
    return list(dict.fromkeys(setting.group for setting in settings.of(config)))


def _row(setting):
    values = ", ".join(setting.choices) if setting.choices else _KINDS[setting.kind]
    values += ", or your own" if setting.own else ""
    default = setting.default
    if default is None:
        default = setting.shown if setting.otherwise is None else setting.otherwise
    text = setting.text
    if text.split()[0] not in (setting.choices or ()):
        text = text[0].upper() + text[1:]
    if setting.own:
        text += f" Your own is {setting.own}."
    if setting.belongs_to:
        decider, deciding = setting.belongs_to
        text = f"With `--{decider}={' or '.join(deciding)}`. {text}"
    default = "" if default is None else str(default).lower() if setting.kind is bool else default
    return f"| `--{setting.name}` | {values} | {_cell(str(default))} | {_cell(text)} |"


def _cell(value):
    return value.replace("|", "\\|").replace("<", "\\<")


if __name__ == "__main__":
    files.write_text(PAGE, text())
    print(PAGE)
