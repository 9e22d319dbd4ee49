"""The changes that tests/mutants.py makes, and that what it leaves out is still there."""

import ast

from tests import mutants

SOURCE = '''
def twice(values, is_open=True):
    """Returns 2 of 1."""
    if len(values) < 3 and not is_open:
        raise ValueError("1 < 2")
    return [-2.0 * each for each in values if each is not None]
'''


def test_each_comparison_operator_sign_number_truth_value_and_condition_is_changed():
    found = mutants.mutants_of("module", ast.parse(SOURCE))
    assert {(mutant.line, mutant.after) for mutant in found} == {
        (2, "def twice(values, is_open=False)"),
        (4, "if not (len(values) < 3 and (not is_open))"),
        (4, "len(values) < 3 or not is_open"),
        (4, "len(values) <= 3 and (not is_open)"),
        (4, "len(values) < 4 and (not is_open)"),
        (4, "len(values) < 2 and (not is_open)"),
        (4, "len(values) < 3 and is_open"),
        (6, "[2.0 * each for each in values if each is not None]"),
        (6, "[-4.0 * each for each in values if each is not None]"),
        (6, "[-1.0 * each for each in values if each is not None]"),
        (6, "[-2.0 / each for each in values if each is not None]"),
        (6, "for each in values if each is None"),
    }
    assert {mutant.where for mutant in found} == {"module.twice"}


def test_mutant_runs_with_its_change():
    def run(after):
        tree = ast.parse(SOURCE)
        (mutant,) = [each for each in mutants.mutants_of("module", tree) if each.after == after]
        mutant.apply()
        names = {}
        exec(compile(ast.fix_missing_locations(tree), "module", "exec"), names)
        return names["twice"]([1.0, None])

    assert run("[-4.0 * each for each in values if each is not None]") == [-4.0]
    assert run("[2.0 * each for each in values if each is not None]") == [2.0]


def test_mutants_that_no_test_can_tell_are_still_there():
    left = {(where, text) for where, known in mutants.EQUIVALENT.items() for text in known}
    for module, path in mutants.MODULES.items():
        tree = ast.parse(path.read_text())
        for mutant in mutants.mutants_of(module, tree):
            left -= {(mutant.where, f"{mutant.before} -> {mutant.after}")}
            left -= {(mutant.where, mutant.before)}
    assert not left
