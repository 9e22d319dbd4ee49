"""The TFF execution context over a worker that we start, watch and end ourselves."""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator

import grpc
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2, executor_pb2_grpc

from tfpriv.federated.worker import Worker, WorkerError

ANSWER_SECONDS = 60.0
_PROBE_EVERY_SECONDS = 5.0
_DYING_SECONDS = 2.0
_MAX_MESSAGE_BYTES = 2**31 - 1
_CHANNEL_OPTIONS = (
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
)
# The worker keeps an executor, with its sessions, for each number of clients in a round; under
# Poisson sampling that number changes from round to round.
_EXECUTORS_KEPT = 24


@contextlib.contextmanager
def running(worker: Worker, *, answer_seconds: float = ANSWER_SECONDS) -> Iterator[None]:
    """Makes `worker` TFF's default execution context while the block runs, then ends it.

    Args:
        worker: A worker, which may be still coming up.
        answer_seconds: How long the worker may be silent, at its start and later, before the call
            in progress fails. A probe asks it every few seconds; work may take as long as it
            takes.

    Raises:
        WorkerError: if the worker ends or falls silent; from the call that was in progress.
        UserError: if it listens at a port.
    """
    channel = grpc.insecure_channel(worker.address, _CHANNEL_OPTIONS)
    watch = _Watch(worker, channel, answer_seconds)
    factory = _ExecutorFactory(watch, tff.framework.RemoteExecutorGrpcStub(channel))
    tff.framework.set_default_context(
        tff.framework.SyncExecutionContext(
            executor_fn=factory,
            compiler_fn=tff.backends.native.desugar_and_transform_to_native,
            transform_args=tff.tensorflow.transform_args,
            transform_result=tff.tensorflow.transform_result,
        )
    )
    try:
        watch.wait_until_ready()
        yield
    finally:
        watch.close()
        worker.close()


class _Watch:
    """Notices that the worker has ended or fallen silent, and ends the calls that wait for it."""

    def __init__(self, worker, channel, answer_seconds):
        self._worker = worker
        self._channel = channel
        self._answer_seconds = answer_seconds
        self._stop = threading.Event()
        self._reason = None
        self._thread = threading.Thread(target=self._watch, name="worker-watch", daemon=True)

    def wait_until_ready(self):
        deadline = time.monotonic() + self._answer_seconds
        while not _answers(self._channel, 0.2, wait_for_ready=True):
            self._worker.refuse_ports()
            if not self._worker.is_alive():
                self._reason = "did not start"
            elif time.monotonic() > deadline:
                self._reason = f"did not answer within {self._answer_seconds:g} s"
            if self._reason:
                raise self.error()
        self._worker.refuse_ports()
        self._thread.start()

    def error(self):
        """Returns what to raise for a call that failed."""
        # The connection to a dying worker is lost a moment before its process is gone.
        reason = self._reason or (
            "ended" if self._worker.ends_within(_DYING_SECONDS) else "refused a call"
        )
        return WorkerError(f"TFF's worker {reason}; {self._worker.describe()}")

    def close(self):
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_PROBE_EVERY_SECONDS)
        self._channel.close()

    def _watch(self):
        # A channel of its own, because the other may be busy with a large message.
        with grpc.insecure_channel(self._worker.address) as channel:
            answered = time.monotonic()
            while not self._stop.wait(min(_PROBE_EVERY_SECONDS, self._answer_seconds / 2)):
                if _answers(channel, self._answer_seconds / 2):
                    answered = time.monotonic()
                if not self._worker.is_alive():
                    self._reason = "ended"
                elif time.monotonic() - answered > self._answer_seconds:
                    self._reason = f"has not answered for {self._answer_seconds:g} s"
                if self._reason:
                    # Calls in progress fail at once instead of waiting for ever.
                    self._channel.close()
                    return


def _answers(channel, seconds, *, wait_for_ready=False):
    """Says whether the worker answers; an answer that is an error shows life too."""
    stub = executor_pb2_grpc.ExecutorGroupStub(channel)
    # It names an executor that does not exist.
    request = executor_pb2.DisposeRequest(executor=executor_pb2.ExecutorId(id="probe"))
    try:
        stub.Dispose(request, timeout=seconds, wait_for_ready=wait_for_ready)
    except grpc.RpcError as error:
        silent = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        return error.code() not in silent
    return True


class _Stub:
    """Passes calls on, and turns a lost connection into an error.

    TFF would try a lost call again without end.
    """

    def __init__(self, watch, stub):
        self._watch = watch
        self._stub = stub

    def __getattr__(self, method):
        call = getattr(self._stub, method)

        def pass_on(request):
            try:
                return call(request)
            except tff.framework.RetryableError as error:
                raise self._watch.error() from error
            except grpc.RpcError as error:
                lost = (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
                if error.code() in lost:
                    raise self._watch.error() from error
                raise
            except ValueError as error:  # What gRPC raises for a channel that was closed.
                raise self._watch.error() from error

        return pass_on


class _ExecutorFactory(tff.framework.ExecutorFactory):
    """Keeps the executors of the numbers of clients used last, and closes the others.

    TFF's own keeps ten and forgets the eleventh without closing it on the worker.
    """

    def __init__(self, watch, stub):
        self._stub = _Stub(watch, stub)
        self._executors = collections.OrderedDict()

    def create_executor(self, cardinalities):
        key = cardinalities.get(tff.CLIENTS, 0)
        if key not in self._executors:
            executor = tff.framework.RemoteExecutor(self._stub)
            executor.set_cardinalities({tff.CLIENTS: key})
            self._executors[key] = executor
            if len(self._executors) > _EXECUTORS_KEPT:
                self._executors.popitem(last=False)[1].close()
        self._executors.move_to_end(key)
        return self._executors[key]

    def clean_up_executor(self, cardinalities):
        executor = self._executors.pop(cardinalities.get(tff.CLIENTS, 0), None)
        if executor is not None:
            with contextlib.suppress(WorkerError):
                executor.close()
