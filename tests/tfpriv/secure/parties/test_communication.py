"""The traffic that is read off a graph is the traffic that the formulas give."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfpriv.secure.parties import communication
from tfpriv.secure.protocols import fixed_point

SEED = 32


def traffic(parties, function, *arguments):
    concrete = tf.function(function, autograph=False).get_concrete_function(*arguments)
    return communication.measure(concrete.graph, parties)


def test_a_product_sends_each_share_to_one_neighbor(aby3, local_parties):
    secret = fixed_point.share(aby3, tf.ones([10, 20], tf.float64)).bone
    weights = fixed_point.share(aby3, tf.ones([20, 30], tf.float64)).bone

    def product(x, y):
        z = aby3.matmul(fixed_point.raw(aby3, aby3.from_bone(x)), aby3.from_bone(y))
        return [share.value for pair in z.unwrapped for share in pair]

    sent = traffic(local_parties, product, secret, weights)
    payload = 10 * 30 * 8
    # Each server's share goes to one other, and each of the three keys to the server that has it
    # in common.
    assert sent.bytes_sent == {"client": 0} | {f"server{i}": payload + SEED for i in range(3)}
    assert sent.rounds == 2  # the keys, then the shares


def test_inputs_and_outputs_travel_between_client_and_servers(aby3, local_parties):
    def there_and_back(x):
        return fixed_point.reveal(aby3, fixed_point.share(aby3, x))

    sent = traffic(local_parties, there_and_back, tf.TensorSpec([100], tf.float64))
    # Of the two shares that are drawn, the seeds travel; each server opens one share.
    assert sent.bytes_sent["client"] == 800 + 2 * SEED
    assert [sent.bytes_sent[f"server{i}"] for i in range(3)] == [800] * 3
    assert sent.rounds == 2


def test_what_nobody_reads_is_not_counted(aby3, local_parties):
    def wasteful(x):
        secret = fixed_point.share(aby3, x)
        aby3.matmul(secret, secret)
        return fixed_point.reveal(aby3, secret)

    shape = tf.TensorSpec([8, 8], tf.float64)
    once = traffic(local_parties, wasteful, shape)
    plainly = traffic(
        local_parties, lambda x: fixed_point.reveal(aby3, fixed_point.share(aby3, x)), shape
    )
    assert once == plainly


def test_a_comparison_sends_what_its_formula_says(aby3, local_parties):
    secret = fixed_point.share(aby3, tf.ones([1000], tf.float64)).bone

    def sign(x):
        return [share.value for pair in aby3.msb(aby3.from_bone(x)).unwrapped for share in pair]

    sent = traffic(local_parties, sign, secret)
    # The first share of u, then generate, and a level each of 8, 4, 2, 1, 1 and 1 bytes.
    per_number = 8 + 3 * (8 + 8 + 4 + 2 + 1 + 1 + 1)
    assert sum(sent.bytes_sent.values()) == 1000 * per_number + 3 * SEED
    assert sent.rounds <= 9


def test_traffic_adds_up():
    a = communication.Traffic(bytes_sent={"client": 1, "server0": 2}, rounds=3)
    b = communication.Traffic(bytes_sent={"client": 10, "server0": 0}, rounds=4)
    assert a + b == communication.Traffic(bytes_sent={"client": 11, "server0": 2}, rounds=7)


def test_parties_that_share_a_device_cannot_be_told_apart(local_parties):
    together = dataclasses.replace(local_parties, separate=False)
    with pytest.raises(ValueError, match="share a device"):
        communication.measure(tf.Graph(), together)


def test_the_parties_have_devices_of_their_own(local_parties):
    assert local_parties.separate
    assert len(set(local_parties.devices.values())) == 4
    assert np.array_equal(
        sorted(local_parties.devices), ["client", "server0", "server1", "server2"]
    )
