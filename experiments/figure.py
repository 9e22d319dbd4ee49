"""Runs the points of a figure over several seeds, and draws it.

  python -m experiments.figure --figure=kairouz2021/crossover --seeds=0,1,2

A paper's figures stand in its figures.json: curves of one metric over the values of one flag,
beside published points, with an audit of each run where the figure asks for one. Points that were
run before are in points.json beside it, and are not run again. New ones go into a points.json in
runs/figures/paper/name after every run, so that a figure that was interrupted goes on where it
stopped, and the picture goes there too; with --record they go beside figures.json, and the picture
into docs/. --draw draws what there is, and runs nothing.
"""

import pathlib
import sys

from absl import flags

from experiments import program
from experiments.published import figures, options
from tfpriv import runs
from tfpriv.errors import UserError

_FIGURE = flags.DEFINE_string("figure", None, "The figure, as paper/name.")
_DRAW = flags.DEFINE_boolean("draw", False, "Only draw the points that there are.")
_RECORD = flags.DEFINE_boolean(
    "record", False, "Put the points beside figures.json, and the picture into docs/."
)
_FOLDER = flags.DEFINE_string(
    "figure_dir", None, "The folder for the picture, instead of the one that --record decides."
)


def main() -> None:
    """Runs what is missing of the figure, as the flags say, and draws it."""
    presets = pathlib.Path(options.PRESETS_DIR.value)
    paper, name, figure = figures.find(presets, _FIGURE.value)
    folder = pathlib.Path("runs", "figures", paper, name).absolute()
    points = figures.Points(
        presets / paper, name, figure, presets / paper if _RECORD.value else folder
    )
    if _DRAW.value and not points:
        raise UserError(f"{points.path} has no points of {name}; run it without --draw.")
    pictures = pathlib.Path(_FOLDER.value or (options.ROOT / "docs" if _RECORD.value else folder))
    figures.refuse_unwritable(pictures, "give another --figure_dir")
    if not _DRAW.value:
        seeds = options.parse_seeds(options.SEEDS.value)
        try:
            points.run_missing(seeds, folder)
        except KeyboardInterrupt:
            runs.print_safely("error: interrupted; run it again to go on.", sys.stderr)
            sys.exit(program.INTERRUPTED)
    picture = pictures / f"{paper}_{name}.png"
    points.draw(picture)
    runs.print_safely(f"{picture}")


flags.adopt_module_key_flags(options)

if __name__ == "__main__":
    program.run(main)
