"""The programs: each turns flags into a config and calls one function of tfpriv."""

from tfpriv import environment

environment.check()
