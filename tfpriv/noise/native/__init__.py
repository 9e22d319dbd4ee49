"""The loops over the numbers of a step in C++: what they are called is in noise.cc beside this."""

import ctypes
import functools
import pathlib
from importlib import machinery

from tfpriv.errors import UserError


@functools.cache
def load() -> ctypes.CDLL:
    """Returns the library.

    Raises:
        UserError: if it is not built.
    """
    folder = pathlib.Path(__file__).parent
    paths = [folder / f"kernels{suffix}" for suffix in machinery.EXTENSION_SUFFIXES]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise UserError(
            f"the native library of tfpriv.noise is not built ({paths[0]} is missing), and without "
            "it there is no noise; build it with `make install`, or "
            "`pip install --no-build-isolation --editable .` (needs g++)."
        )
    library = ctypes.CDLL(str(path))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    library.combine.argtypes = [pointer, integer, pointer, pointer, pointer]
    library.combine.restype = integer
    for release in (library.release_float, library.release_double):
        release.argtypes = [pointer, pointer, integer, ctypes.c_double, pointer]
        release.restype = None
    return library
