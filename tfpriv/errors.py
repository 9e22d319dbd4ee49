"""The one exception that a user is meant to read."""


class UserError(ValueError):
    """Something the user asked for cannot be done.

    The message is one sentence that says what is wrong, with the value, and what to do. Programs
    print it after "error: " and exit with status 2, without a traceback.
    """
