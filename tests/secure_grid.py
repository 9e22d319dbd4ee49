"""Checks random networks on shares for an hour; `make grid` runs it.

python -m tests.secure_grid --minutes=60
"""

import argparse
import collections
import time

from tfpriv import environment

environment.quiet_tensorflow()


def main() -> None:
    """Draws networks until the time is over; hypothesis raises with the smallest that is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    end = time.monotonic() + 60 * parser.parse_args().minutes
    from tests.tfpriv.secure.inference import test_random_networks

    count = collections.Counter()
    run = test_random_networks.drawn(100, is_fixed=False, count=count)
    while time.monotonic() < end:
        run()
        print(f"networks: {count['computed']} computed, {count['refused']} refused", flush=True)


if __name__ == "__main__":
    main()
