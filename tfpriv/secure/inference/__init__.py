"""Trained Keras models on secret shares."""
