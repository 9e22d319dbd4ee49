"""What private training must leave as it was: all of a model but the weights that it trains."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from tfpriv.errors import UserError
from tfpriv.models.probing import weights_kept


class FrozenState:
    """The first values of a model's variables other than its trainable weights.

    Private training releases the trainable weights, noised. Whatever else a model holds when it is
    saved, in its file or in a checkpoint, must be a function of what it was before it read private
    data: frozen weights, but also the totals of metrics, the states of generators (they move with
    the sizes of batches, which are private under Poisson sampling), and anything that the model's
    own layers track.
    """

    def __init__(self, model: tf.keras.Model) -> None:
        """Notes the values.

        Args:
            model: A built model, with the weights to start from, or those of a checkpoint.
        """
        self._model = model
        self._trainable = {variable.ref() for variable in model.trainable_weights}
        self._first = {variable.ref(): variable.numpy() for variable in self._others()}

    @contextlib.contextmanager
    def put_back(self) -> Iterator[None]:
        """Gives these variables their first values for the block, in which the model is saved.

        Training goes on from the present ones, so that dropout does not repeat its masks.

        Raises:
            UserError: if the model has a variable that it did not have at first; names it.
        """
        others = self._others()
        new = [variable.name for variable in others if variable.ref() not in self._first]
        if new:
            raise UserError(
                f"The model made the variables {', '.join(new)} while it was trained, so they "
                "could hold the data without noise; make them in its constructor or in build."
            )
        with weights_kept(others):
            for variable in others:
                variable.assign(self._first[variable.ref()])
            yield

    def _others(self):
        """Returns all that a checkpoint or a file of the model would hold besides."""
        tracked = [*tf.train.TrackableView(self._model).descendants(), *self._model.weights]
        variables = {item.ref(): item for item in tracked if isinstance(item, tf.Variable)}
        return [variable for ref, variable in variables.items() if ref not in self._trainable]
