"""Whatever a native op is given, it computes or raises; the process goes on."""

import re
import subprocess
import sys

import pytest

from tests.tfpriv.secure.native import hostile_calls

_CALLS = 3_000


def test_every_op_is_called(ops):
    sources = "".join(path.read_text() for path in hostile_calls.SOURCES.glob("*.cc"))
    registered = set(re.findall(r'REGISTER_(?:OP|UNARY|BINARY)\("(\w+)"', sources))
    assert registered == set(hostile_calls.names())


@pytest.mark.slow
def test_no_call_ends_the_process(tmp_path):
    module, log = hostile_calls.__name__, tmp_path / "calls.txt"
    result = subprocess.run(
        [sys.executable, "-m", module, f"--calls={_CALLS}", f"--log={log}"],
        capture_output=True,
        text=True,
        check=False,
    )
    last = log.read_text().splitlines()[-1] if log.exists() else "none"
    assert result.returncode == 0, f"status {result.returncode} in {last}\n{result.stderr[-2000:]}"
    assert "never computed: none" in result.stdout
    assert int(re.findall(r"(\d+) errors", result.stdout)[0]) > _CALLS / 10
