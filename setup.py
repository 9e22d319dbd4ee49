"""Builds the native code of the package; the rest of it is described in setup.cfg."""

import concurrent.futures
import os
import pathlib
import shutil
import subprocess

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

OPS = "tfpriv.secure.native.ops"
KERNELS = "tfpriv.noise.native.kernels"
BIND = "tfpriv.listening.native.bind"

FLAGS = ["-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall"]
# Comparing sizes with int64_t is TensorFlow's own habit. GCC notes that its way of passing long
# vectors has changed, and ours never leave a file.
FLAGS += ["-Wno-sign-compare", "-Wno-psabi"]
FLAGS += os.environ.get("CXXFLAGS", "").split()


class Build(build_ext):
    """Compiles with g++; the ops against the headers of the TensorFlow that is installed."""

    def build_extension(self, ext):
        if not shutil.which("g++"):
            raise SystemExit(
                "error: g++ is missing, and the native code of tfpriv is compiled with it; "
                "install it (on Debian and Ubuntu: apt-get install g++) and run again."
            )
        flags, libraries, folder = [], [], pathlib.Path("build", "kernels")
        if ext.name == OPS:
            flags, libraries, folder = against_tensorflow()
        # Objects outlast the build, so that a change to one file compiles one file.
        folder.mkdir(parents=True, exist_ok=True)
        headers = list(map(str, ext.depends))
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(
                pool.map(lambda source: compile_one(source, headers, folder, flags), ext.sources)
            )
        library = pathlib.Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        run_compiler("-shared", *FLAGS, *objects, *libraries, output=library)


def against_tensorflow():
    """Returns what TensorFlow wants of the compiler and of the linker, and a folder for objects."""
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
    return flags, tf.sysconfig.get_link_flags(), pathlib.Path("build", f"ops-{tf.__version__}")


def compile_one(source, headers, folder, flags):
    """Compiles a source unless its object is newer than all that it is made from."""
    target = folder / pathlib.Path(source).with_suffix(".o").name
    made_from = [source, *headers, __file__]
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


def extension(name):
    """Returns the library of the sources in the package that it lies in."""
    folder = pathlib.Path(*name.split(".")[:-1])
    sources, headers = (sorted(map(str, folder.glob(kind))) for kind in ("*.cc", "*.h"))
    return Extension(name, sources=sources, depends=headers)


setup(
    ext_modules=[extension(OPS), extension(KERNELS), extension(BIND)],
    cmdclass={"build_ext": Build},
)
