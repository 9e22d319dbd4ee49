import tensorflow as tf

from tfpriv.models.side_effects import side_effects

BATCH = tf.TensorSpec([None, 2])


def found(function, generators=()):
    traced = tf.function(function).get_concrete_function(BATCH)
    return [(each.op, each.variable) for each in side_effects(traced, generators)]


def test_function_of_its_arguments_and_of_variables_has_none():
    variable = tf.Variable([1.0, 2.0])
    assert not found(lambda batch: tf.nn.softmax(batch * variable) + tf.random.normal([2]))


def test_variable_is_told_apart_behind_calls_and_loops():
    first, second = tf.Variable(0.0), tf.Variable(0.0)

    @tf.function
    def inner(batch):
        for _ in tf.range(tf.shape(batch)[0]):
            if tf.reduce_sum(batch) > first:
                second.assign_add(1.0)
        return batch

    [(op, variable)] = found(lambda batch: inner(batch) + first)
    assert op == "AssignAddVariableOp"
    assert variable is second


def test_every_write_is_found_once():
    first, second = tf.Variable(0.0), tf.Variable(0.0)

    @tf.function
    def write(variable, batch):
        variable.assign(tf.reduce_sum(batch))

    def both(batch):
        write(first, batch)
        write(second, batch)
        second.assign_sub(1.0)

    ops, variables = zip(*found(both), strict=True)
    assert ops == ("AssignVariableOp", "AssignVariableOp", "AssignSubVariableOp")
    assert [id(each) for each in variables] == [id(first), id(second), id(second)]


def test_known_generator_may_draw_but_not_be_written_to():
    known, other = (tf.random.Generator.from_seed(seed) for seed in (1, 2))

    def draw(batch):
        return known.normal([2]) + other.normal([2])

    assert [variable for _, variable in found(draw, [known.state])] == [other.state]

    def keep(batch):
        known.state.assign(tf.cast(batch[0, :1], tf.int64) * tf.ones([3], tf.int64))

    [(op, _)] = found(keep, [known.state])
    assert op == "AssignVariableOp"


def test_operation_inside_a_function_that_is_not_followed_counts_without_its_variable():
    variable = tf.Variable(0.0)

    def over_examples(batch):
        return tf.data.Dataset.from_tensor_slices(batch).map(variable.assign_add).cardinality()

    ops = found(lambda batch: tf.map_fn(lambda row: variable.assign_add(row[0]), batch))
    assert [op for op, _ in ops] == ["AssignAddVariableOp"]
    datasets = found(lambda batch: over_examples(batch[:, 0]))
    assert ("AssignAddVariableOp", None) in datasets
