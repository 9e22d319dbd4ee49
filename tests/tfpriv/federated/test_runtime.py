"""Tests of tfpriv.federated.runtime: a worker that fails gives an error, and never a hang."""

import os
import signal
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfpriv.errors import UserError
from tfpriv.federated import runtime, worker
from tfpriv.federated.worker import Worker, WorkerError


@tff.tensorflow.computation(np.int32)
def _double(x):
    return 2 * x


@tff.tensorflow.computation(np.float32)
def _endless(x):
    return tf.while_loop(lambda x: x < 2.0, lambda x: (x * 0.5 + 0.1,), (x,))[0]


def _later(seconds, function, *arguments):
    timer = threading.Timer(seconds, function, arguments)
    timer.daemon = True
    timer.start()


def test_computations_run_and_the_worker_ends_with_the_block():
    ours = Worker()
    with runtime.running(ours):
        assert _double(21) == 42
        assert ours.is_alive()
    assert not ours.is_alive()
    assert not psutil.pid_exists(ours.pid)


def test_the_worker_ends_with_an_exception():
    ours = Worker()
    with pytest.raises(KeyboardInterrupt), runtime.running(ours):
        raise KeyboardInterrupt
    assert not psutil.pid_exists(ours.pid)


def test_what_a_computation_does_wrong_is_no_fault_of_the_worker():
    @tff.tensorflow.computation(np.int32)
    def wrong(x):
        with tf.control_dependencies([tf.debugging.assert_equal(x, 0)]):
            return tf.identity(x)

    ours = Worker()
    with runtime.running(ours):
        with pytest.raises(Exception, match="assert") as raised:
            wrong(1)
        assert not isinstance(raised.value, WorkerError)
        assert _double(1) == 2


def test_a_worker_killed_in_the_middle_of_a_call_is_an_error_with_its_log_soon():
    ours = Worker()
    began = time.monotonic()
    says = "worker ended; it was ended by SIGKILL; the end of its log"
    with pytest.raises(WorkerError, match=says), runtime.running(ours):
        _later(1.0, os.kill, ours.pid, signal.SIGKILL)
        _endless(np.float32(0))
    assert time.monotonic() - began < 30


def test_a_worker_killed_between_calls_is_an_error():
    ours = Worker()
    with pytest.raises(WorkerError, match="SIGKILL"), runtime.running(ours):
        assert _double(1) == 2
        os.kill(ours.pid, signal.SIGKILL)
        _double(2)


def test_a_worker_that_falls_silent_is_an_error_within_its_time():
    ours = Worker()
    says = "has not answered for 2 s; it is running as process"
    with pytest.raises(WorkerError, match=says), runtime.running(ours, answer_seconds=2):
        assert _double(1) == 2
        os.kill(ours.pid, signal.SIGSTOP)
        began = time.monotonic()
        _double(2)
    assert time.monotonic() - began < 20
    assert not psutil.pid_exists(ours.pid)


def test_work_may_take_longer_than_the_answer_may():
    @tff.tensorflow.computation(np.float32)
    def busy(x):
        end = tf.timestamp() + 4.0
        return tf.while_loop(lambda x: tf.timestamp() < end, lambda x: (x + 1.0,), (x,))[0]

    ours = Worker()
    with runtime.running(ours, answer_seconds=2):
        assert busy(np.float32(0)) > 1


def test_a_worker_that_does_not_start_is_an_error(monkeypatch):
    monkeypatch.setattr(worker, "_worker_binary", lambda: "/bin/false")
    says = "worker did not start; it ended with status 1"
    with pytest.raises(WorkerError, match=says), runtime.running(Worker()):
        pass


def test_a_worker_that_the_native_library_has_no_effect_on_cannot_listen_and_is_refused(
    monkeypatch,
):
    monkeypatch.setattr(worker.listening, "child_environment", lambda *_: {})
    ours = Worker()
    says = (
        r"was ended, as it does not keep from listening at (\[::\]|0\.0\.0\.0):\d+, .*make install"
    )
    with pytest.raises(UserError, match=says), runtime.running(ours):
        raise AssertionError("ran")
    assert not psutil.pid_exists(ours.pid)


def test_a_worker_that_listens_at_another_port_too_is_refused(monkeypatch, tmp_path):
    other = tmp_path / "worker"
    other.write_text(
        f"#!{sys.executable}\n"
        "import signal, socket\n"
        "ours = socket.create_server(('127.0.0.1', 0))\n"
        "signal.pause()\n"
    )
    other.chmod(0o700)
    monkeypatch.setattr(worker, "_worker_binary", lambda: str(other))
    ours = Worker()
    says = r"from listening at 127\.0\.0\.1:\d+, where others"
    with pytest.raises(UserError, match=says), runtime.running(ours):
        raise AssertionError("ran")
    assert not psutil.pid_exists(ours.pid)


def test_a_worker_that_never_listens_is_an_error_within_its_time():
    ours = Worker()
    os.kill(ours.pid, signal.SIGSTOP)
    says = "did not answer within 1 s"
    with pytest.raises(WorkerError, match=says), runtime.running(ours, answer_seconds=1):
        pass
    assert not psutil.pid_exists(ours.pid)


def test_executors_of_many_cardinalities_are_closed_again(monkeypatch):
    monkeypatch.setattr(runtime, "_EXECUTORS_KEPT", 2)

    @tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
    def total(values):
        return tff.federated_sum(values)

    ours = Worker()
    with runtime.running(ours):
        for _ in range(2):
            for clients in (0, 1, 2, 5):
                assert total(list(range(clients))) == sum(range(clients))
