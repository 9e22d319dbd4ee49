"""results.json of each paper, and the table of docs/results.md that is made from them."""

import pathlib
from collections.abc import Iterable, Mapping

from experiments.published.rows import EXPECTED, Check, Row, papers, read_paper
from tfpriv import files, rounding
from tfpriv.errors import UserError
from tfpriv.runs import json_files

RESULTS = "results.json"
BEGIN, END = "<!-- results -->", "<!-- /results -->"

_COLUMNS = ("row", "metric", "published", "to reach", "median here", "seeds", "verdict")


def read(presets: pathlib.Path, paper: str) -> dict[str, dict]:
    """Returns a paper's results by row; empty before there are any.

    Raises:
        UserError: if results.json is damaged.
    """
    path = presets / paper / RESULTS
    try:
        rows = json_files.read(path)
        for name, result in rows.items():
            for check in result["checks"]:
                if not {"metric", "values", "median", "reached", "missed_by"} <= set(check):
                    raise ValueError(f"a check of {name} is incomplete")
        return rows
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {error}); restore it, or remove it and "
            "reproduce its rows again."
        ) from error


def judge(row: Row, summaries: Mapping[int, Mapping], configs: Mapping[int, Mapping]) -> dict:
    """Returns the result of a row's runs, as it stands in results.json.

    Args:
        row: What was run.
        summaries: By seed, summary.json.
        configs: By seed, config.json.

    Raises:
        UserError: if a metric is in no summary.
    """
    checks = []
    for check in row.checks:
        missing = [seed for seed, summary in summaries.items() if check.metric not in summary]
        if missing:
            raise UserError(
                f"{row.paper}/{EXPECTED} compares {check.metric}, which is not in the "
                f"summary of {row.name}; name one of {', '.join(next(iter(summaries.values())))}."
            )
        values = {str(seed): summary[check.metric] for seed, summary in summaries.items()}
        checks.append(
            {
                "metric": check.metric,
                "published": check.value,
                "comparison": check.comparison,
                "tolerance": check.tolerance,
                "values": values,
                **check.judge(list(values.values())),
            }
        )
    # The seeds run one after another from the same code.
    made = next(iter(configs.values()))
    return {
        "checks": checks,
        "flags": row.flags(),
        "seconds": {str(seed): summary["wall_seconds"] for seed, summary in summaries.items()},
        "started": made["started"],
        "git_commit": made["git_commit"],
        "git_dirty": made["git_dirty"],
        "versions": made["versions"],
    }


def write(presets: pathlib.Path, row: Row, result: Mapping) -> None:
    """Puts a row's result into its paper's results.json, in the order of expected.json."""
    _, order = read_paper(presets, row.paper)
    results = {**read(presets, row.paper), row.name: result}
    json_files.write(
        presets / row.paper / RESULTS, {name: results[name] for name in order if name in results}
    )


def reached(result: Mapping) -> bool:
    """Says whether every check of a row was reached."""
    return all(check["reached"] for check in result["checks"])


def lines(row: Row, result: Mapping) -> list[str]:
    """Returns the table rows of a published row, one a check."""
    return [
        _line(row, check, measured)
        for check, measured in zip(row.checks, result["checks"], strict=True)
    ]


def table(presets: pathlib.Path) -> str:
    """Returns the results of all papers in Markdown, a table a paper.

    Raises:
        UserError: if an expected.json or a results.json is damaged, or they do not fit.
    """
    parts = []
    for paper in papers(presets):
        reference, rows = read_paper(presets, paper)
        results = read(presets, paper)
        for name, result in results.items():
            _refuse_other_checks(presets, paper, name, rows.get(name), result)
        parts.append(f"`{paper}`: {reference}")
        if results:
            body = [line for name in results for line in lines(rows[name], results[name])]
            parts.append("\n".join([*header(), *body]))
        if left := [f"`{name}`" for name in rows if name not in results]:
            parts.append(f"Not run: {', '.join(left)}.")
    return "\n\n".join(parts)


def header() -> list[str]:
    """Returns the head of a table."""
    return [_cells(_COLUMNS), _cells(["---"] * len(_COLUMNS))]


def write_table(page: pathlib.Path, presets: pathlib.Path) -> None:
    """Replaces the table between the two markers in a Markdown file.

    Raises:
        UserError: if the file is not there or does not hold each marker once, in order.
    """
    files.replace_between(page, BEGIN, END, table(presets))


def _refuse_other_checks(presets, paper, name, row, result):
    expected = [check.metric for check in row.checks] if row else []
    if [check["metric"] for check in result["checks"]] != expected:
        raise UserError(
            f"{presets / paper / RESULTS} has a result of {name} that "
            f"{EXPECTED} does not ask for; reproduce {paper}/{name} again, or remove it."
        )


def _line(row: Row, check: Check, measured: Mapping) -> str:
    if measured["reached"]:
        verdict = "reached"
    elif measured["missed_by"] is None:
        verdict = "not reached by most seeds"
    else:
        verdict = f"missed by {_number(measured['missed_by'])}"
    median = measured["median"]
    return _cells(
        [
            f"{row.title} (`{row.name}`)",
            check.metric,
            _number(check.value),
            _bounds(check),
            "" if median is None else _measured(check.metric, median),
            str(len(measured["values"])),
            verdict,
        ]
    )


def _bounds(check: Check) -> str:
    low, high = (_number(check.value + sign * check.tolerance) for sign in (-1, 1))
    return {
        "at_most": f"at most {high}",
        "at_least": f"at least {low}",
        "within": f"{low} to {high}",
    }[check.comparison]


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _measured(metric: str, value: float) -> str:
    if metric == "epsilon_lower_bound":
        return rounding.down(value)
    return rounding.up(value) if metric.startswith("epsilon") else _number(value)


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
