"""Side-by-side timings of tfpriv and what it is compared with; each prints ratios."""

from tfpriv import environment

environment.check()
