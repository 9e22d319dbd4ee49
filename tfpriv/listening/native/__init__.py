"""The `bind` that gives servers one place: what it does is in bind.cc beside this."""

import ctypes
import functools
import pathlib
from importlib import machinery

from tfpriv.errors import UserError

_BUILD = "build it with `make install`, or `pip install --no-build-isolation --editable .`"


def path() -> pathlib.Path:
    """Returns the file of the library.

    Raises:
        UserError: if it is not built.
    """
    folder = pathlib.Path(__file__).parent
    paths = [folder / f"bind{suffix}" for suffix in machinery.EXTENSION_SUFFIXES]
    built = next((path for path in paths if path.exists()), None)
    if built is None:
        raise UserError(
            f"the native library of tfpriv.listening is not built ({paths[0]} is missing), and "
            f"without it servers listen on every address of the machine; {_BUILD} (needs g++)."
        )
    return built


@functools.cache
def load() -> ctypes.CDLL:
    """Loads the library into this process and returns it; of itself that changes nothing.

    Raises:
        UserError: if it is not built, or does not load.
    """
    try:
        library = ctypes.CDLL(str(path()))
        library.listen_at.argtypes = [ctypes.c_int, ctypes.c_char_p]
        library.divert.argtypes = [ctypes.c_char_p]
    except (OSError, AttributeError) as error:
        raise UserError(
            f"the native library of tfpriv.listening does not load ({error}), and without it "
            f"servers listen on every address of the machine; {_BUILD} (needs g++)."
        ) from error
    return library
