"""Runs tf-encrypted's own tests, from where it is installed, on the engine of tfpriv.secure.

`make conformance` runs it. Each folder of tests has a process of its own, and each file a protocol
that was just built, as it would have on its own.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pytest

# The longest first, as two run at a time.
FOLDERS = ["protocol", "keras", "convert", "operations", "tensor"]

# With its own ops, on the TensorFlow that it was made for, tf-encrypted 0.9.1 passes this many of
# its tests, and says of this many that they are to be skipped.
PASSED_UPSTREAM = 227
SKIPPED_UPSTREAM = 21


class Recorder:
    """A plugin of pytest that notes what became of each test."""

    def __init__(self):
        self.outcomes = {"passed": [], "skipped": [], "failed": []}

    def pytest_collectreport(self, report):
        if report.failed:
            self.outcomes["failed"].append(report.nodeid)

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.lstrip(":")
        if report.failed:
            self.outcomes["failed"].append(name)
        elif report.skipped:
            reason = report.longrepr[2].removeprefix("Skipped").lstrip(": ")
            self.outcomes["skipped"].append(f"{name}: {reason or 'upstream gives no reason'}")
        elif report.when == "call":
            self.outcomes["passed"].append(name)


def use_ours(tfe):
    """Puts our protocols where the tests take tf-encrypted's from."""
    from tfpriv.secure.protocols import aby3, securenn

    upstream = tfe.protocol.SecureNN

    class SecureNN(securenn.SecureNN):
        def __new__(cls, *args, fixedpoint_config=None, **kwargs):
            # Ours is for 64 bits only.
            if fixedpoint_config == "high":
                return upstream(*args, fixedpoint_config=fixedpoint_config, **kwargs)
            return super().__new__(cls)

    for module in (tfe, tfe.protocol, sys.modules["tf_encrypted.protocol.aby3"]):
        module.ABY3 = aby3.ABY3
    tfe.protocol.SecureNN = SecureNN


def run_folder(folder, protocol, report):
    """Runs a folder's tests in this process and writes what became of them to `report`."""
    from tfpriv import environment

    environment.quiet_tensorflow()

    import tensorflow as tf

    from tfpriv.secure.protocols.engine import tfe

    if protocol == "tfpriv":
        use_ours(tfe)

    recorder = Recorder()
    options = ["-q", "--import-mode=importlib", "--disable-warnings", "--tb=short"]
    options += ["-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={os.getcwd()}"]
    options += ["--timeout=300", "--timeout-method=thread"]
    for path in sorted(pathlib.Path(tfe.__file__).with_name(folder).rglob("*_test.py")):
        tfe.set_protocol(tfe.protocol.ABY3())
        # Some tests draw inputs that they cannot pass: test_relu has 2,352 numbers in [0, 1), of
        # which one is below the fixed point's 16 bits in a run of 28, and has no gradient there.
        # So the inputs are the same in each run. The shares are not: their randomness is the
        # operating system's.
        tf.keras.utils.set_random_seed(0)
        pytest.main([*options, str(path)], plugins=[recorder])
    pathlib.Path(report).write_text(json.dumps(recorder.outcomes))


def start_folder(folder, protocol):
    """Runs a folder's tests in a process of their own; returns what became of them, or None."""
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch, "report.json")
        # Without -P, Python would take tests/tfpriv for tfpriv.
        command = [sys.executable, "-P", __file__, f"--folder={folder}", f"--report={report}"]
        start = time.monotonic()
        done = subprocess.run(
            [*command, f"--protocol={protocol}"],
            cwd=scratch,  # The tests write files to where they run, and to TMPDIR.
            env=os.environ | {"TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        seconds = time.monotonic() - start
        outcomes = json.loads(report.read_text()) if report.exists() else None
    if outcomes is None:
        print(f"{folder}: ended with status {done.returncode} before its end\n{done.stdout}")
        return None
    if outcomes["failed"]:
        print(done.stdout)
    counts = ", ".join(f"{len(names)} {outcome}" for outcome, names in outcomes.items())
    print(f"{folder}: {counts} in {seconds:.0f} s", flush=True)
    return outcomes


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--protocol",
        choices=["upstream", "tfpriv"],
        default="upstream",
        help="whose ABY3 and SecureNN are tested: tf-encrypted's own, or those of tfpriv.secure",
    )
    parser.add_argument("--folder", choices=FOLDERS, help="run the tests of this folder alone")
    parser.add_argument("--report", help=argparse.SUPPRESS)  # run in this process, and write here
    flags = parser.parse_args()
    if flags.report:
        run_folder(flags.folder, flags.protocol, flags.report)
        return 0

    folders = [flags.folder] if flags.folder else FOLDERS
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda folder: start_folder(folder, flags.protocol), folders))
    whole = [outcomes for outcomes in results if outcomes]
    passed, skipped, failed = (
        [name for outcomes in whole for name in outcomes[outcome]]
        for outcome in ("passed", "skipped", "failed")
    )
    for name in skipped:
        print(f"skipped: {name}")
    for name in failed:
        print(f"failed: {name}")
    counts = f"{len(passed)} passed, {len(skipped)} skipped, {len(failed)} failed"
    print(f"with {flags.protocol}'s protocols: {counts}")
    conforms = len(whole) == len(folders) and not failed
    fewer = len(passed) < PASSED_UPSTREAM or len(skipped) > SKIPPED_UPSTREAM
    if folders == FOLDERS and fewer:
        print(f"error: upstream {PASSED_UPSTREAM} pass and {SKIPPED_UPSTREAM} are skipped.")
        conforms = False
    return 0 if conforms else 1


if __name__ == "__main__":
    sys.exit(main())
