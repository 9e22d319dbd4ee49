"""Breaks the privacy package in one place at a time and counts the breaks that its tests notice.

  python -m tests.mutants plan accounting

A mutant is a module with one comparison, operator, sign, number, truth value or condition changed.
Each runs in a fork of a process that has the packages loaded, against the tests that reach the
changed line, quick ones first, until one fails. The counts and the survivors go into
tests/mutants.json, and as a table into tests/README.md.
"""

import argparse
import ast
import collections
import dataclasses
import functools
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import coverage
import pytest

from tfpriv import files
from tfpriv.runs import json_files, provenance

_FOLDER = pathlib.Path(__file__).parent
_ROOT = _FOLDER.parent
_TESTS = _FOLDER / "tfpriv"
RESULTS, README = _FOLDER / "mutants.json", _FOLDER / "README.md"
BEGIN, END = "<!-- mutants -->", "<!-- /mutants -->"
MODULES = {
    path.stem: path
    for path in (
        *sorted((_ROOT / "tfpriv" / "privacy").glob("[a-z]*.py")),
        _ROOT / "tfpriv" / "noise" / "factorization.py",
    )
}

# In seconds: no test that takes longer is run, and none beyond this sum for one mutant; for a line
# that runs at import, which all tests reach, none beyond the lesser sum.
_LONGEST_TEST, _LONGEST_SUM, _LESSER_SUM = 4.0, 80.0, 10.0
# A mutant that takes so many times as long as its tests, and so many seconds, is ended.
_PATIENCE, _AT_LEAST = 5, 5.0
# In bytes, for mutants whose grids grow without bounds.
_MEMORY = 8 * 2**30
# The contexts of lines that run before any test: at import, and while a file is collected.
_IMPORT, _COLLECTED = "import", "collected "

_CACHE = "a cache may hold more or less"
_SEARCH = "where the search for noise starts changes its time, not what it finds"
_EXACTLY = "differs only where epsilon is exactly the target, and either noise will do"
_FINER = "only finer than it needs to be"
_LONGER = "only lengthens the grid, where next to nothing is"
_PADDING = "only pads the Fourier transform more"
_BOUND = "the ratio of two coefficients never comes near this bound"
_SEGMENT = "a shuffle is the same in every segment"

# Mutants that no test can tell from the program, by where they are and by what is changed: `before
# -> after`, or `before` for all that becomes of it. They are not run.
EQUIVALENT = {
    "accounting": {
        "_TOLERANCE = 0.001 -> _TOLERANCE = 0.0005": _FINER,
        "(2, 3, 4, 6, 8, 12, 18, 28, 42, 63, 128, 512, 1024)": (
            "each order gives a bound, and these only begin a search that all orders end"
        ),
    },
    "accounting.epsilon_rdp": {
        "np.maximum(composed, 0) + rounding -> np.maximum(composed, -1) + rounding": (
            "the allowance for rounding is larger than any divergence that rounding made negative"
        ),
    },
    "accounting._divergences": {"functools.lru_cache(maxsize=64)": _CACHE},
    "accounting.calibrate.excess": {
        "max(epsilon, 1e-09) / target_epsilon -> max(epsilon, 2e-09) / target_epsilon": _SEARCH,
        "max(epsilon, 1e-09) / target_epsilon -> max(epsilon, 5e-10) / target_epsilon": _SEARCH,
    },
    "accounting.calibrate": {
        "while excess(high) > 0 -> while excess(high) >= 0": _EXACTLY,
        "while excess(low) <= 0 -> while excess(low) < 0": _EXACTLY,
        "while excess(root) > 0 -> while excess(root) >= 0": _EXACTLY,
    },
    "bands.fit_bands": {
        "max(1, int(plan.sampler.population // plan.sampler.expected_size)) -> "
        "max(0, int(plan.sampler.population // plan.sampler.expected_size))": (
            "a step is expected to have no more members than there are"
        ),
    },
    "factorization.optimized": {
        "fft.next_fast_len(2 * steps - 1, real=True) -> "
        "fft.next_fast_len(2 * steps + 1, real=True)": _PADDING,
        "fft.next_fast_len(2 * steps - 1, real=True) -> "
        "fft.next_fast_len(2 * steps - 0, real=True)": _PADDING,
        "fft.next_fast_len(2 * steps - 1, real=True) -> "
        "fft.next_fast_len(2 * steps - 1, real=False)": _PADDING,
        "fft.next_fast_len(2 * steps - 1, real=True) -> "
        "fft.next_fast_len(3 * steps - 1, real=True)": _PADDING,
        "[(None, -1e-06)] * (bands - 1) -> [(None, 1e-06)] * (bands - 1)": _BOUND,
        "[(None, -1e-06)] * (bands - 1) -> [(None, -2e-06)] * (bands - 1)": _BOUND,
        "[(None, -1e-06)] * (bands - 1) -> [(None, -5e-07)] * (bands - 1)": _BOUND,
    },
    "factorization.sensitivity": {
        "total[start:] += column[:len(column) - start] -> "
        "total[start:] -= column[:len(column) - start]": "the square of the sum has no sign",
    },
    "factorization.tree_variance": {
        "Fraction(2 ** level, 2 ** (level + 1) - 1) -> "
        "Fraction(1 ** level, 2 ** (level + 1) - 1)": (
            "the variance is a quadratic of this share that is the same at both"
        ),
    },
    "factorization.tree_sensitivity": {
        "zip(worst, replaced, strict=True) -> zip(worst, replaced, strict=False)": (
            "both are as long as the level is high"
        ),
        "worst.append(max([1 / variance, *later])) -> worst.append(max([1 * variance, *later]))": (
            "a leaf has a variance of 1, and above it something later is larger"
        ),
    },
    "mechanisms.Banded.__post_init__": {
        "self.factorization == 'optimized' and (self.horizon or 0) < 1 -> "
        "self.factorization == 'optimized' and (self.horizon or -1) < 1": "both are below 1",
    },
    "plan.PrivacyPlan.event": {
        "if min(segments, default=0) < 0 -> if min(segments, default=1) < 0": "neither is negative",
    },
    "plan.PrivacyPlan.calibrate": {
        "start=1.0 -> start=2.0": _SEARCH,
        "start=1.0 -> start=0.5": _SEARCH,
    },
    "plan.PrivacyPlan._check_release": {
        "self._with_noise(1.0).epsilon([])": "there must be a noise, but no step adds it",
    },
    "sampling.ShuffledSampler.sample": {
        "self, step: int, seed: Origin, segment: int=0 -> "
        "self, step: int, seed: Origin, segment: int=1": _SEGMENT,
        "self, step: int, seed: Origin, segment: int=0 -> "
        "self, step: int, seed: Origin, segment: int=-1": _SEGMENT,
    },
    "sampling._dealt": {"functools.lru_cache(maxsize=4)": _CACHE},
    "statement._times": {
        "math.exp(min(float(epsilon), 700.0)) -> math.exp(min(float(epsilon), 350.0))": (
            "neither factor is printed"
        ),
        "f'exp({epsilon}), or about {factor:.2g},' if factor < 10000.0 else f'exp({epsilon})' -> "
        "f'exp({epsilon}), or about {factor:.2g},' if factor <= 10000.0 else f'exp({epsilon})'": (
            "no epsilon of four digits has this very factor"
        ),
    },
    "subsets.divergence": {
        "probability * np.clip(bound, 0, 1) -> probability * np.clip(bound, 0, 2)": (
            "a probability less something is at most 1"
        ),
        "np.where(epsilon < 0, np.exp(-size) * bound - np.expm1(-size), bound) -> "
        "np.where(epsilon <= 0, np.exp(-size) * bound - np.expm1(-size), bound)": (
            "both are the same at 0"
        ),
    },
    "subsets._loss": {
        "1 / (2 * noise_multiplier) + _TAIL -> 2 / (2 * noise_multiplier) + _TAIL": _LONGER,
        "1 / (2 * noise_multiplier) + _TAIL -> 1 / (1 * noise_multiplier) + _TAIL": _LONGER,
        "if probability < 1 -> if probability < 0": _LONGER,
    },
}

_OPERATORS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mutant:
    """A module with one change.

    Attributes:
        module: The module's name.
        where: The names of the module and of the classes and functions around the change.
        line: The line of the change.
        lines: The lines of the statement around it.
        before: The expression around the change, as it is.
        after: What becomes of it.
        apply: Changes the module's tree, for good.
    """

    module: str
    where: str
    line: int
    lines: range
    before: str
    after: str
    apply: Callable[[], None]

    def __str__(self) -> str:
        path = MODULES[self.module].relative_to(_ROOT)
        return f"{path}:{self.line}: {self.before} -> {self.after}"

    @property
    def reason(self) -> str | None:
        """Why no test can tell it from the program; None if one should."""
        known = EQUIVALENT.get(self.where, {})
        return known.get(f"{self.before} -> {self.after}", known.get(self.before))


def mutants_of(module: str, tree: ast.Module) -> list[Mutant]:
    """Returns the mutants of a module by line, one for each place and each way to change it."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        for holder, field, new in _changes(node, parents):
            around, before = _around(holder, parents)
            old = getattr(holder, field)
            setattr(holder, field, new)
            after = _text(around)
            setattr(holder, field, old)
            found.append(
                Mutant(
                    module=module,
                    where=".".join([module, *_names(node, parents)]),
                    line=node.lineno,
                    lines=_lines(node, parents),
                    before=before,
                    after=after,
                    apply=functools.partial(setattr, holder, field, new),
                )
            )
    return sorted(found, key=lambda mutant: mutant.line)


def _changes(node, parents) -> Iterator[tuple[ast.AST, str, object]]:
    """Yields what can be changed at a node: the holder of a field, the field, and a new value."""
    operator = _OPERATORS.get(type(getattr(node, "op", None)))
    if operator:
        yield node, "op", operator()
    if isinstance(node, ast.Compare):
        for i, each in enumerate(node.ops):
            yield node, "ops", [*node.ops[:i], _OPERATORS[type(each)](), *node.ops[i + 1 :]]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield _replaced(node, node.operand, parents)
    if isinstance(node, ast.Constant):
        for value in _other_values(node.value):
            yield node, "value", value
    if isinstance(node, ast.If | ast.While | ast.IfExp) and not _is_negated_already(node.test):
        yield node, "test", _negated(node.test)
    is_condition = node in getattr(parents.get(node), "ifs", ())
    if is_condition and not _is_negated_already(node):
        yield _replaced(node, _negated(node), parents)


def _other_values(value):
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1]
    if isinstance(value, float):
        return [2 * value, value / 2] if value else [1.0]
    return []


def _is_negated_already(test):
    """Returns whether another change has the effect of negating a condition."""
    if isinstance(test, ast.UnaryOp):
        return isinstance(test.op, ast.Not)
    inverted = ast.Eq | ast.NotEq | ast.Is | ast.IsNot | ast.In | ast.NotIn
    return (
        isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], inverted)
    )


def _negated(test):
    return ast.copy_location(ast.UnaryOp(ast.copy_location(ast.Not(), test), test), test)


def _replaced(node, new, parents):
    """Returns the change that puts another node in the place of one."""
    for field, value in ast.iter_fields(parents[node]):
        if value is node:
            return parents[node], field, new
        if isinstance(value, list) and node in value:
            return parents[node], field, [new if each is node else each for each in value]
    raise AssertionError(ast.dump(node))


def _around(node, parents):
    """Returns the expression or statement to show for a change in a node, and its text."""
    text = _text(node)
    while len(text) < 30 and not isinstance(node, ast.stmt):
        wider = _text(parents[node])
        if (len(text) >= 8 and len(wider) > 90) or isinstance(parents[node], ast.FormattedValue):
            break
        node, text = parents[node], wider
    return node, text


def _names(node, parents):
    """Returns the names of the classes and functions around a node, the outermost first."""
    names = []
    while node := parents.get(node):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.insert(0, node.name)
    return names


def _text(node):
    lines = ast.unparse(node).splitlines()
    return next(line for line in lines if not line.startswith("@")).strip().removesuffix(":")


def _lines(node, parents):
    """Returns the lines of the statement around a node, without those that it contains."""
    within = node
    while not isinstance(node, ast.stmt):
        within, node = node if hasattr(node, "lineno") else within, parents[node]
    outer = within if hasattr(node, "body") else node
    return range(outer.lineno, outer.end_lineno + 1)


class _Tests:
    """The tests of tfpriv/privacy: how long each takes, and which lines it reaches.

    Attributes:
        seconds: The time of each test.
        reached: For each module and line, the contexts in which it runs.
    """

    def __init__(self):
        """Runs all of the tests once, in a fork."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "base.json"
            if _in_fork(functools.partial(_run_base, path), 3600.0) != pytest.ExitCode.OK:
                raise SystemExit("error: the tests fail without any change; run make test.")
            self.seconds, self.reached = json.loads(path.read_text())

    def of(self, mutant: Mutant) -> list[str]:
        """Returns the tests to run for a mutant, those of its module's own file first."""
        lines = self.reached[mutant.module]
        contexts = {each for line in mutant.lines for each in lines.get(str(line), ())}
        chosen = [
            test
            for test in self.seconds
            if test in contexts or _COLLECTED + _file(test) in contexts or _IMPORT in contexts
        ]
        own = f"test_{mutant.module}.py"
        chosen.sort(key=lambda test: (_file(test) != own, self.seconds[test]))
        left = _LESSER_SUM if _IMPORT in contexts else _LONGEST_SUM
        kept = []
        for is_own in (True, False):
            # Half of the time is for the other files.
            least = left / 2 if is_own else 0.0
            for test in chosen:
                if (_file(test) == own) == is_own and self.seconds[test] <= _LONGEST_TEST:
                    if left <= least:
                        break
                    kept.append(test)
                    left -= self.seconds[test]
        return kept


def _file(test):
    return pathlib.PurePath(test.partition("::")[0]).name


def _dotted(module):
    return ".".join(MODULES[module].relative_to(_ROOT).with_suffix("").parts)


def _run_base(path):
    """Runs all tests, and writes their times and what they reach."""
    measured = coverage.Coverage(
        data_file=None, include=[*map(str, MODULES.values())], messages=False
    )
    measured.start()
    measured.switch_context(_IMPORT)
    modules = [importlib.import_module(_dotted(name)) for name in MODULES]
    seconds = {}

    class Watch:
        @pytest.hookimpl(wrapper=True)
        def pytest_make_collect_report(self, collector):
            if isinstance(collector, pytest.Module):
                measured.switch_context(_COLLECTED + collector.path.name)
            return (yield)

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item):
            # What an earlier test has left in a cache, this one would not reach.
            for module in modules:
                for value in vars(module).values():
                    getattr(value, "cache_clear", int)()
            measured.switch_context(item.nodeid)
            start = time.perf_counter()
            result = yield
            seconds[item.nodeid] = time.perf_counter() - start
            return result

    code = _pytest([_TESTS / "privacy", _TESTS / "noise" / "test_factorization.py"], Watch())
    measured.stop()
    data = measured.get_data()
    reached = {
        name: data.contexts_by_lineno(module.__file__)
        for name, module in zip(MODULES, modules, strict=True)
    }
    path.write_text(json.dumps([seconds, reached]))
    return code


def _run_mutant(mutant, tree, tests):
    """Runs tests against a mutant, in their order, until one fails."""
    mutant.apply()
    name, path = _dotted(mutant.module), str(MODULES[mutant.module])

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname):
            return compile(ast.fix_missing_locations(tree), path, "exec")

    class Finder:
        @staticmethod
        def find_spec(fullname, path_=None, target=None):
            if fullname == name:
                return importlib.util.spec_from_file_location(name, path, loader=Loader(name, path))
            return None

    class Order:
        @staticmethod
        def pytest_collection_modifyitems(items):
            known = {item.nodeid: item for item in items}
            items[:] = [known[test] for test in tests]

    sys.meta_path.insert(0, Finder)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    # The file of the module first: the others need not even be read if it notices.
    return _pytest(sorted({test.partition("::")[0] for test in tests}), Order())


def _pytest(paths, plugin):
    os.chdir(_FOLDER.parent)
    return pytest.main(["-x", "-p", "no:cacheprovider", *map(str, paths)], plugins=[plugin])


def _in_fork(work, seconds):
    """Returns the exit status of a function in a fork, or None if it took longer."""
    pid = os.fork()
    if not pid:
        code = pytest.ExitCode.INTERNAL_ERROR
        try:
            os.setsid()
            with open(os.devnull, "r+") as nowhere:
                for stream in range(3):
                    os.dup2(nowhere.fileno(), stream)
            code = work()
        finally:
            os._exit(code)
    ended = os.pidfd_open(pid)
    is_ended = bool(select.select([ended], [], [], seconds)[0])
    os.close(ended)
    if not is_ended:
        os.killpg(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status) if is_ended else None


def is_killed(mutant: Mutant, tree: ast.Module, tests: _Tests) -> bool:
    """Returns whether a test fails for a mutant, or does not end."""
    chosen = tests.of(mutant)
    own = [test for test in chosen if _file(test) == f"test_{mutant.module}.py"]
    for some in (own, chosen[len(own) :]):
        limit = _AT_LEAST + _PATIENCE * sum(tests.seconds[test] for test in some)
        work = functools.partial(_run_mutant, mutant, tree, some)
        if some and _in_fork(work, limit) != pytest.ExitCode.OK:
            return True
    return False


def measure(module: str, tests: _Tests) -> dict:
    """Runs all mutants of a module and prints those that survive."""
    tree = ast.parse(MODULES[module].read_text())
    counts, equivalent, survivors = collections.Counter(), [], []
    for mutant in mutants_of(module, tree):
        counts["mutants"] += 1
        if mutant.reason:
            equivalent.append(f"{mutant}: {mutant.reason}")
        elif is_killed(mutant, tree, tests):
            counts["killed"] += 1
        else:
            survivors.append(str(mutant))
            print(f"survived: {mutant}", flush=True)
    print(f"{module}: {counts['killed']} of {counts['mutants']} killed", flush=True)
    return {**counts, "equivalent": equivalent, "survivors": survivors}


def table(results: dict) -> str:
    """Returns the results in Markdown: a row a module."""
    rows = ["| module | mutants | killed | no test can tell | survived |", "| --- " * 5 + "|"]
    for module, found in sorted(results["modules"].items()):
        rows.append(
            f"| {module} | {found['mutants']} | {found['killed']} | {len(found['equivalent'])} | "
            f"{len(found['survivors'])} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measures the modules that are named, and keeps what is known of the others."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)}; all if left out")
    asked_for = parser.parse_args().modules or MODULES
    if unknown := set(asked_for) - set(MODULES):
        parser.error(f"there is no module {', '.join(sorted(unknown))} to break.")
    _load_packages()
    tests = _Tests()
    results = json_files.read(RESULTS) if RESULTS.exists() else {"modules": {}}
    for module in asked_for:
        results["modules"][module] = measure(module, tests)
        made = provenance.surroundings()
        results |= {name: made[name] for name in ("versions", "git_commit", "git_dirty")}
        json_files.write(RESULTS, results)
        files.replace_between(README, BEGIN, END, table(results))


def _load_packages():
    """Imports what the tests need of packages and of tfpriv, all but tfpriv/privacy, for all forks.

    Forks want no threads, and the plugins of pytest are of no use in them.
    """
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in (
        *("dp_accounting.pld.privacy_loss_distribution", "dp_accounting.rdp"),
        *("scipy.fft", "scipy.integrate", "scipy.optimize", "scipy.signal", "scipy.stats"),
        *("tfpriv.datasets.download", "tfpriv.draws"),
    ):
        importlib.import_module(name)
    if any(name.startswith("tfpriv.privacy") for name in sys.modules):
        raise AssertionError("tfpriv.privacy is loaded already, and no mutant could take its place")


if __name__ == "__main__":
    main()
