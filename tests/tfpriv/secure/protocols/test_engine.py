"""The bring-up: what upstream lost is back, and nothing that it built without our ops is used."""

import ast
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.secure import native
from tfpriv.secure.protocols import running
from tfpriv.secure.protocols.engine import tensors, tfe

ROOT = pathlib.Path(__file__).parents[4]


def test_only_the_engine_imports_tf_encrypted():
    importers = set()
    for path in [*ROOT.glob("tfpriv/**/*.py"), *ROOT.glob("experiments/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            names = [alias.name for alias in node.names]
            names += [getattr(node, "module", None) or ""]
            if any(name.split(".")[0] == "tf_encrypted" for name in names):
                importers.add(path.name)
    assert importers == {"engine.py"}


FRESH = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
from tfpriv.secure.protocols.engine import tfe
from tensorflow.python.eager import context
print([tfe.get_protocol() is None, context.context()._context_handle is None])
try:
    tfe.define_private_input("client", lambda: tf.zeros([1]))
except Exception as error:
    print(type(error).__name__, "not implemented" in str(error))
from tfpriv.secure.parties import connection
from tfpriv.secure.protocols import running
with running.protocol("aby3", connection.local()) as protocol:
    key = protocol.pairwise_keys()[0][0]
    print(key.dtype, key.shape, tfe.get_protocol() is protocol)
print(tfe.get_protocol())
"""


def test_the_protocol_of_the_import_cannot_be_reached_and_nothing_is_printed():
    result = subprocess.run(
        [sys.executable, "-c", FRESH], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "[True, True]",  # no protocol, and TensorFlow is not started
        "Exception True",
        "<dtype: 'int32'> (8,) True",  # seeds of our op; TensorFlow's own would be int64 (2,)
        "None",
    ]
    assert "tf_encrypted" not in result.stderr and "insecure" not in result.stderr


def test_each_protocol_is_built_anew(local_parties):
    keys = []
    for _ in range(2):
        with running.protocol("aby3", local_parties) as protocol:
            keys.append(protocol.pairwise_keys()[0][0].numpy())
    assert not np.any(keys[0] == keys[1])


def test_what_was_computed_is_forgotten_when_the_protocol_ends(aby3, local_parties):
    aby3.define_private_input("client", lambda: tf.zeros([3], tf.float64)).reveal()
    assert tfe.protocol.protocol.nodes
    with running.protocol("aby3", local_parties):
        pass
    assert not tfe.protocol.protocol.nodes


def test_matrix_products_of_the_ring_are_native():
    x = tensors.int64factory.tensor(tf.constant([[2**62, 3], [5, -7]]))

    @tf.function(autograph=False)
    def product():
        return x.matmul(x).value

    kinds = {op.type for op in product.get_concrete_function().graph.get_operations()}
    assert "Int64MatMul" in kinds and "MatMul" not in kinds
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(product(), x.value.numpy() @ x.value.numpy())


def test_without_the_library_the_error_says_how_to_build_it(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "__file__", str(tmp_path / "__init__.py"))
    native.load.cache_clear()
    try:
        with pytest.raises(UserError, match="make install"):
            native.load()
        (tmp_path / "ops.so").write_bytes(b"no library")
        monkeypatch.setattr("importlib.machinery.EXTENSION_SUFFIXES", [".so"])
        with pytest.raises(UserError, match="do not load into TensorFlow"):
            native.load()
    finally:
        monkeypatch.undo()
        native.load.cache_clear()
        native.load()
