"""The native ops of tfpriv.secure: what they are called is in the .cc files beside this one."""

import functools
import pathlib
import types
from importlib import machinery

from tfpriv.errors import UserError


@functools.cache
def load() -> types.ModuleType:
    """Loads the ops into TensorFlow and returns the module that holds their Python functions.

    Raises:
        UserError: The library is missing, or was built against another TensorFlow.
    """
    import tensorflow as tf

    folder = pathlib.Path(__file__).parent
    paths = [folder / f"ops{suffix}" for suffix in machinery.EXTENSION_SUFFIXES]
    library = next((path for path in paths if path.exists()), None)
    if library is None:
        raise UserError(
            f"the native ops of tfpriv.secure are not built ({paths[0]} is missing), and without "
            "them there is no secure randomness; build them with `make install`, or "
            "`pip install --no-build-isolation --editable .` (needs g++)."
        )
    try:
        return tf.load_op_library(str(library))
    except tf.errors.NotFoundError as error:
        raise UserError(
            f"the native ops in {library} do not load into TensorFlow {tf.__version__} "
            f"({error.message}); build them anew with `make install`."
        ) from error
