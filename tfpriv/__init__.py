"""tfpriv: privacy-preserving machine learning in TensorFlow, from the command line."""

from tfpriv import environment

__version__ = "0.1.0"

# Before anything else of tfpriv is read: another Python may not even parse it.
environment.check_python()
