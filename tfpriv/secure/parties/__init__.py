"""Who computes, where they are, and what travels between them.

It imports nothing: a player is up before TensorFlow is.
"""
