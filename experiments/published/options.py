"""The flags that the programs of published rows and figures have in common."""

import pathlib

from absl import flags

from tfpriv.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]

SEEDS = flags.DEFINE_list("seeds", ["0"], "The seeds to run it with, one run each.")
PRESETS_DIR = flags.DEFINE_string(
    "presets_dir", str(ROOT / "experiments" / "presets"), "The folder of papers."
)


def parse_seeds(values: list[str]) -> list[int]:
    """Returns the seeds that --seeds names; raises UserError if they are none."""
    try:
        seeds = [int(value) for value in values]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds={','.join(values)} must be different whole numbers from 0, such as 0,1,2."
        )
    return seeds
