"""docs/flags.md is what the configs say."""

import subprocess
import sys

from experiments import flags_page
from tfpriv import settings

CODE = "from experiments import flags_page; print(flags_page.text(), end='')"


def test_the_page_is_that_of_the_configs():
    made = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert flags_page.PAGE.read_text() == made.stdout, "run python -m experiments.flags_page"


def test_every_setting_of_every_config_is_on_it():
    page = flags_page.PAGE.read_text()
    for program, config in flags_page._CONFIGS.items():
        part = page.split(f"experiments.{program}\n")[1].split("\n## ")[0]
        for setting in settings.of(config):
            assert f"| `--{setting.name}` |" in part
