"""Federated algorithms, a file each: what clients do in a round, and what the server does then.

The names are here alone, without TensorFlow, for configs; an algorithm is loaded by its name. Each
file has a function `build` of a `Setup`, which returns an `Algorithm`; see `base`. Settings of a
config that belong to one algorithm are passed to its function by their names.
"""

import importlib
from collections.abc import Callable

# By name, where it comes from. A name is that of the file, too.
SOURCES = {
    "fedavg": "McMahan et al. 2017",
    "fedsgd": "one gradient over all of a client's data; McMahan et al. 2017",
    "fedprox": "Li et al. 2020",
    "mimelite": "Karimireddy et al. 2021",
    "scaffold": "Karimireddy et al. 2020",
    "feddyn": "Acar et al. 2021",
}
NAMES = tuple(SOURCES)
# Those whose clients take steps of their own.
LOCAL_TRAINING = tuple(name for name in NAMES if name != "fedsgd")
# What a function of the user's own must be.
OWN = "a function (setup) -> tfpriv.federated.algorithms.base.Algorithm"


def builder(name: str) -> Callable:
    """Returns the function `build` of an algorithm among `NAMES`."""
    return importlib.import_module(f"{__name__}.{name}").build
