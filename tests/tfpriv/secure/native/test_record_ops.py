import concurrent.futures
import fcntl
import os
import resource
import stat

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure.protocols.engine import tfe


def read(path):
    return [record.numpy() for record in tf.data.TFRecordDataset([str(path)])]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "share"


@pytest.fixture(autouse=True)
def open_umask():
    """Others may read what is written, unless the op itself sees to it that they may not."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("record", [b"", b"x", b"\0\xff" * 999_999], ids=len)
def test_tensorflow_reads_what_was_written(ops, path, record):
    ops.write_record(str(path), record, append=True)
    assert read(path) == [record]


def test_file_is_what_tensorflow_would_write(ops, path):
    records = [b"one", b"", b"three"]
    with tf.io.TFRecordWriter(str(path) + ".reference") as writer:
        for record in records:
            writer.write(record)
            ops.write_record(str(path), record, append=True)
    assert path.read_bytes() == path.with_suffix(".reference").read_bytes()


def test_record_is_appended_or_replaces_all(ops, path):
    ops.write_record(str(path), b"one", append=False)
    ops.write_record(str(path), b"two", append=True)
    assert read(path) == [b"one", b"two"]
    ops.write_record(str(path), b"three", append=False)
    assert read(path) == [b"three"]
    assert os.listdir(path.parent) == ["share"]


@pytest.mark.parametrize("append", [True, False])
def test_only_the_owner_can_read(ops, path, append):
    ops.write_record(str(path), b"private", append=append)
    assert mode(path) == 0o600


@pytest.mark.parametrize("append", [True, False])
def test_file_that_others_could_read_becomes_private(ops, path, append):
    path.write_bytes(b"")
    path.chmod(0o644)
    ops.write_record(str(path), b"private", append=append)
    assert mode(path) == 0o600
    assert read(path) == [b"private"]


def test_replaced_file_stays_whole_for_who_reads_it(ops, path):
    ops.write_record(str(path), b"old", append=False)
    with path.open("rb") as reader:
        ops.write_record(str(path), b"a new and longer one", append=False)
        assert b"old" in reader.read()


def test_records_of_many_threads_stay_whole(ops, path):
    records = [bytes([i]) * (100_000 + i) for i in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda record: ops.write_record(str(path), record, append=True), records))
    assert sorted(read(path)) == records


def test_record_waits_until_another_is_whole(ops, path):
    ops.write_record(str(path), b"first", append=True)
    with path.open("rb") as other, concurrent.futures.ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        writing = pool.submit(ops.write_record, str(path), b"second", append=True)
        with pytest.raises(concurrent.futures.TimeoutError):
            writing.result(timeout=0.3)
        assert read(path) == [b"first"]
        fcntl.flock(other, fcntl.LOCK_UN)
        writing.result(timeout=30)
    assert read(path) == [b"first", b"second"]


@pytest.mark.parametrize("append", [True, False])
def test_missing_folder_is_an_error(ops, tmp_path, append):
    with pytest.raises(tf.errors.NotFoundError, match="nowhere/share"):
        ops.write_record(str(tmp_path / "nowhere" / "share"), b"x", append=append)


@pytest.mark.parametrize("append", [True, False])
def test_folder_is_an_error(ops, tmp_path, append):
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.FailedPreconditionError)):
        ops.write_record(str(tmp_path), b"x", append=append)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("append", [True, False])
def test_device_is_an_error_and_stays_what_it_is(ops, append):
    before = os.stat("/dev/null").st_mode
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a regular file"):
        ops.write_record("/dev/null", b"x", append=append)
    assert os.stat("/dev/null").st_mode == before


@pytest.mark.parametrize("append", [True, False])
def test_pipe_that_nobody_reads_is_an_error(ops, path, append):
    os.mkfifo(path)
    with pytest.raises(tf.errors.OpError):
        ops.write_record(str(path), b"x", append=append)


@pytest.mark.parametrize(
    ("filename", "record"), [("", b"x"), ("a\0b", b"x"), (["a", "b"], b"x"), ("a", [b"x"])]
)
def test_names_and_records_that_make_no_sense_are_errors(ops, filename, record):
    with pytest.raises(tf.errors.InvalidArgumentError):
        ops.write_record(filename, record, append=True)


@pytest.mark.parametrize("append", [True, False])
def test_failed_write_leaves_the_file_as_it_was(ops, path, append):
    ops.write_record(str(path), b"kept", append=True)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(tf.errors.OpError, match="File too large"):
            ops.write_record(str(path), b"x" * 1000, append=append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["share"]


def test_shares_are_written_to_private_files_and_come_back(tmp_path):
    values = np.arange(8.0).reshape(4, 2) - 3.5
    prefix = str(tmp_path / "x")
    with tfe.protocol.ABY3() as protocol:
        protocol.define_private_variable(values).write(prefix)
        files = sorted(tmp_path.iterdir())
        assert len(files) == 6
        assert {mode(file) for file in files} == {0o600}
        shares = next(protocol.read(prefix, file_batch=1, output_shape=[4, 2]))
        np.testing.assert_allclose(shares.reveal().to_native(), values, atol=1e-3)
