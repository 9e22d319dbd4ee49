"""Builds the native ops of tfpriv.secure; the rest of the package is described in setup.cfg."""

import glob
import shutil

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class BuildOps(build_ext):
    """Compiles against the headers of the TensorFlow that is installed."""

    def build_extension(self, ext):
        if not shutil.which("g++"):
            raise SystemExit(
                "error: g++ is missing, and the native ops of tfpriv.secure are compiled with it; "
                "install it (on Debian and Ubuntu: apt-get install g++) and run again."
            )
        import tensorflow as tf

        self.compiler.set_executables(
            compiler_so="g++", compiler_so_cxx="g++", linker_so="g++ -shared",
            linker_so_cxx="g++ -shared",
        )
        ext.extra_compile_args += tf.sysconfig.get_compile_flags()
        ext.extra_link_args += tf.sysconfig.get_link_flags()
        super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "tfpriv.secure.native.ops",
            sources=sorted(glob.glob("tfpriv/secure/native/*.cc")),
            depends=sorted(glob.glob("tfpriv/secure/native/*.h")),
            extra_compile_args=["-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-sign-compare"],
            language="c++",
        )
    ],
    cmdclass={"build_ext": BuildOps},
)
