"""Builds the native ops of tfpriv.secure; the rest of the package is described in setup.cfg."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = pathlib.Path("tfpriv/secure/native")
SOURCES = sorted(map(str, NATIVE.glob("*.cc")))
HEADERS = sorted(map(str, NATIVE.glob("*.h")))

FLAGS = ["-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall"]
# Comparing sizes with int64_t is TensorFlow's own habit. GCC notes that its way of passing long
# vectors has changed, and ours never leave a file.
FLAGS += ["-Wno-sign-compare", "-Wno-psabi"]


class BuildOps(build_ext):
    """Compiles against the headers of the TensorFlow that is installed."""

    def build_extension(self, ext):
        if not shutil.which("g++"):
            raise SystemExit(
                "error: g++ is missing, and the native ops of tfpriv.secure are compiled with it; "
                "install it (on Debian and Ubuntu: apt-get install g++) and run again."
            )
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            import tensorflow as tf
        except ImportError as error:
            raise SystemExit(
                "error: TensorFlow is missing, and the native ops of tfpriv.secure are compiled "
                "against it; run `make install`, or install requirements.lock and run pip with "
                f"--no-build-isolation ({error})."
            ) from error

        # Headers that are not ours give no warnings.
        flags = [flag.replace("-I", "-isystem") for flag in tf.sysconfig.get_compile_flags()]
        # Objects outlast the build, so that a change to one file compiles one file.
        folder = pathlib.Path("build", f"ops-{tf.__version__}")
        folder.mkdir(parents=True, exist_ok=True)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda source: compile_one(source, folder, flags), ext.sources))
        library = pathlib.Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        run_compiler("-shared", *objects, *tf.sysconfig.get_link_flags(), output=library)


def compile_one(source, folder, flags):
    """Compiles a source unless its object is newer than all that it is made from."""
    target = folder / pathlib.Path(source).with_suffix(".o").name
    made_from = [source, *HEADERS, __file__]
    if not target.exists() or target.stat().st_mtime <= max(map(os.path.getmtime, made_from)):
        run_compiler(*FLAGS, *flags, "-c", source, output=target)
    return target


def run_compiler(*arguments, output):
    """Runs g++; the output appears whole, or not at all."""
    draft = output.with_name(f"{output.name}.{os.getpid()}")
    try:
        if subprocess.run(["g++", *map(str, arguments), "-o", str(draft)]).returncode != 0:
            raise SystemExit(f"error: g++ could not make {output}; what it said is above.")
        os.replace(draft, output)
    finally:
        draft.unlink(missing_ok=True)


setup(
    ext_modules=[Extension("tfpriv.secure.native.ops", sources=SOURCES, depends=HEADERS)],
    cmdclass={"build_ext": BuildOps},
)
