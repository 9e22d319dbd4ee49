"""The run directory: everything that a run leaves behind, in one place."""

import contextlib
import dataclasses
import datetime
import itertools
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tfpriv import files, settings
from tfpriv.errors import UserError
from tfpriv.runs import config as config_file
from tfpriv.runs import json_files, lock, metrics, provenance

if TYPE_CHECKING:
    import pandas

MAY_DIFFER = ("output_dir", "resume", "data_dir")


# What a run says of its result.
_SHOWN = (
    "test_accuracy",
    "test_rmse",
    "secure_accuracy",
    "secure_rmse",
    "agreement",
    "epsilon",
    "epsilon_lower_bound",
)


class Config(settings.Config, Protocol):
    """A dataclass of a program's flags, of which `RunDirectory.start` reads some."""

    @property
    def output_dir(self) -> str | None:
        """The run directory."""

    @property
    def resume(self) -> bool:
        """Whether the run goes on with what is there."""


class RunDirectory:
    """A directory that holds one run, and the paths and formats of what is in it.

    It holds config.json (program, flags, seeds, versions, commit), metrics.csv and TensorBoard
    events, checkpoints/, model.keras, privacy.json and privacy.txt, plots/*.png and summary.json.
    Each file but the events, which are a log, appears whole or not at all.

    Get one from `create`, `resume` or `open`, and use it as a context manager: a directory that a
    run writes to is locked against other processes until it is closed.

    Attributes:
        path: The directory, absolute.
    """

    def __init__(self, path: pathlib.Path, held: lock.Lock | None) -> None:
        """Not for callers; see `create`, `resume` and `open`."""
        self.path = path
        self._lock = held
        self._metrics: metrics.MetricsWriter | None = None

    @classmethod
    def start(
        cls,
        config: Config,
        *,
        program: str,
        may_differ: Collection[str] = MAY_DIFFER,
        **described: Any,
    ) -> "RunDirectory":
        """Makes the directory of a new run, or opens that to go on with if the config says resume.

        Args:
            config: A dataclass, whose fields are the program's flags, `output_dir` and `resume`
                among them.
            program: The program's name.
            may_differ: Names of the flags that need not be what they were.
            **described: What else `create` takes.

        Raises:
            UserError: as `create` and `resume` do.
        """
        flags = dataclasses.asdict(config)
        if config.resume:
            return cls.resume(config.output_dir, flags, program=program, may_differ=may_differ)
        return cls.create(config.output_dir, flags, program=program, **described)

    @classmethod
    def create(
        cls,
        output_dir: str | os.PathLike | None,
        flags: Mapping,
        *,
        program: str,
        step_name: str = "round",
        seeds: Mapping[str, int] | None = None,
        data: Mapping | None = None,
    ) -> "RunDirectory":
        """Makes the directory of a new run, locks it and writes its config.json.

        Args:
            output_dir: The directory, which must be new or empty. None or empty for
                `runs/<program>-<YYYYmmdd-HHMMSS>` in the current folder.
            flags: All flags of the program, by name; values as `json_files.plain` takes them.
            program: The program's name, such as `federated`.
            step_name: What the run counts in, `round` or `step`: the first column of metrics.csv.
            seeds: The seeds in use, by purpose.
            data: Where the examples came from; may also follow by `write_config`.

        Raises:
            UserError: if the directory holds something already, is in use, or cannot be written.
        """
        config = json_files.plain(
            {
                "program": program,
                "step_name": step_name,
                "flags": flags,
                "seeds": seeds or {},
                "data": data or {},
                **provenance.surroundings(),
                "resumed": [],
            }
        )
        path = _absolute(output_dir or "runs")
        try:
            if not output_dir:
                path = _new_default(path, program)
            _refuse_contents(path)
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, lock.Lock(path))
            with contextlib.ExitStack() as on_failure:
                on_failure.callback(run.close)
                _refuse_contents(path)  # Again, as another process may have come first.
                _remove_leftovers(path)
                config_file.write(path, config)
                on_failure.pop_all()
        except OSError as error:
            raise _unwritable(path, error) from error
        return run

    @classmethod
    def resume(
        cls,
        output_dir: str | os.PathLike | None,
        flags: Mapping,
        *,
        program: str,
        may_differ: Collection[str] = MAY_DIFFER,
    ) -> "RunDirectory":
        """Opens and locks the directory of an earlier run, to go on with it.

        What other versions or another commit than the run began with is logged as a warning, and
        the list `resumed` in config.json gets an entry.

        Args:
            output_dir: The directory of the run.
            flags: All flags of the program now.
            program: The program's name.
            may_differ: Names of the flags that need not be what they were.

        Raises:
            UserError: if there is no run, it is another program's, it was started with other
                flags, it is in use, or it cannot be read or written.
        """
        if not output_dir:
            raise UserError("--resume needs --output_dir: the directory of the run to go on with.")
        run = cls.open(output_dir)
        config = run.config
        if config["program"] != program:
            raise UserError(
                f"{run.path} holds a run of the program {config['program']}, not {program}; give "
                "the directory of the run to go on with."
            )
        config_file.refuse_other_flags(
            run.path, config["flags"], json_files.plain(flags), may_differ
        )
        now = provenance.surroundings()
        try:
            run._lock = lock.Lock(run.path)
            _remove_leftovers(run.path)
            run.write_config(resumed=[*config.get("resumed", []), now])
        except OSError as error:
            run.close()
            raise _unwritable(run.path, error) from error
        config_file.warn_of_changes(config, now)
        return run

    @classmethod
    def open(cls, output_dir: str | os.PathLike) -> "RunDirectory":
        """Opens the directory of a run to read it, or to add to it after it has ended.

        It takes no lock, and `metrics` is not to be had: use `read_metrics`.

        Raises:
            UserError: if there is no run, or its config.json is damaged.
        """
        path = _absolute(output_dir)
        config_file.read(path)
        return cls(path, None)

    @property
    def config(self) -> dict:
        """What config.json holds: program, flags, seeds, data, versions, git_commit and so on."""
        return config_file.read(self.path)

    def write_config(self, **entries: object) -> None:
        """Adds entries to config.json or replaces them, for example `data`, once it is loaded."""
        config_file.write(self.path, {**self.config, **entries})

    def pin(self, name: str, value: object) -> None:
        """Writes an entry into config.json, which a run that goes on must have as well.

        Raises:
            UserError: if the run began with another value.
        """
        config = self.config
        if name in config and config[name] != json_files.plain(value):
            raise UserError(
                f"{self.path} began with a {name} of {config[name]}, and it would go on with "
                f"{value}; use the versions of the packages that its config.json names, or start "
                "anew in another --output_dir."
            )
        self.write_config(**{name: json_files.plain(value)})

    def __repr__(self) -> str:
        """The run's results, for whoever ran it in a notebook or a shell."""
        what = self.config.get("program", "run")
        summary = self.summary
        if summary is None:
            return f"<{what} in {self.path}: no result yet>"
        shown = ", ".join(f"{name} {_short(summary[name])}" for name in _SHOWN if name in summary)
        return f"<{what} in {self.path}: {shown or 'done'}>"

    @property
    def metrics(self) -> metrics.MetricsWriter:
        """The writer of metrics.csv and of TensorBoard's events.

        Raises:
            ValueError: if the directory was opened by `open`, or is closed.
        """
        if self._lock is None:
            raise ValueError("metrics are written between create or resume, and close")
        if self._metrics is None:
            step_name = self.config.get("step_name", "round")
            self._metrics = metrics.MetricsWriter(self.path, step_name)
        return self._metrics

    def read_metrics(self) -> dict[str, list]:
        """Returns the columns of metrics.csv; see `metrics.read_metrics`."""
        return metrics.read_metrics(self.path / metrics.FILE_NAME)

    def last_test(self) -> dict[str, float]:
        """Returns the last value of each test metric, by its name in metrics.csv."""
        values = {
            name: [value for value in column if value is not None]
            for name, column in self.read_metrics().items()
            if name.startswith("test_")
        }
        return {name: column[-1] for name, column in values.items() if column}

    def frame(self) -> "pandas.DataFrame":
        """Returns metrics.csv as a pandas.DataFrame, a row each round, step or evaluation."""
        import pandas as pd

        return pd.DataFrame(self.read_metrics())

    @property
    def statement(self) -> str | None:
        """The privacy statement in words; None before it is written."""
        path = self.path / "privacy.txt"
        return path.read_text(encoding="utf-8") if path.exists() else None

    @property
    def client_states_path(self) -> pathlib.Path:
        """Where what clients keep from round to round goes."""
        return self.path / "client_states"

    @property
    def checkpoints_path(self) -> pathlib.Path:
        """The folder for checkpoints; whoever writes them makes it."""
        return self.path / "checkpoints"

    @property
    def model_path(self) -> pathlib.Path:
        """The final Keras model, for `tf.keras.models.load_model`."""
        return self.path / "model.keras"

    @property
    def trajectory_path(self) -> pathlib.Path:
        """The folder for the models of an audited run's evaluations, `step_<number>.npz`."""
        return self.path / "trajectory"

    @property
    def plots_path(self) -> pathlib.Path:
        """The folder for pictures; whoever writes them makes it."""
        return self.path / "plots"

    def write_privacy(self, statement: Mapping, text: str) -> None:
        """Writes the privacy statement.

        Args:
            statement: What privacy.json is to hold.
            text: The same in words, for privacy.txt.
        """
        json_files.write(self.path / "privacy.json", statement)
        files.write_text(self.path / "privacy.txt", text.rstrip("\n") + "\n")

    @property
    def privacy(self) -> dict | None:
        """What privacy.json holds; None before it is written."""
        return _read_or_none(self.path / "privacy.json")

    def write_summary(self, summary: Mapping) -> None:
        """Writes summary.json: results by name, without levels, NaN and infinities as null.

        Raises:
            ValueError: if a value is itself a mapping.
        """
        nested = [name for name, value in summary.items() if isinstance(value, Mapping)]
        if nested:
            raise ValueError(f"the summary's keys are flat, but {nested} hold mappings")
        json_files.write(self.path / "summary.json", summary)

    @property
    def summary(self) -> dict | None:
        """What summary.json holds; None before it is written."""
        return _read_or_none(self.path / "summary.json")

    @property
    def final_summary(self) -> dict:
        """What summary.json holds, of a run that has ended."""
        summary = self.summary
        assert summary is not None, "the run has not ended"
        return summary

    def files(self) -> list[pathlib.Path]:
        """Returns what the run has written, sorted; checkpoints and runs within it as folders."""
        whole = {self.checkpoints_path, self.client_states_path, self.trajectory_path}
        whole.add(self.path / "shadows")
        whole |= {path.parent for path in self.path.glob("*/config.json")}
        paths = []
        for path in sorted(self.path.rglob("*")):
            if path in whole or (
                path.is_file() and not path.name.startswith(".") and whole.isdisjoint(path.parents)
            ):
                paths.append(path)
        return paths

    def close(self) -> None:
        """Closes the metrics and lets other processes have the directory."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _absolute(output_dir):
    text = os.fspath(output_dir)
    if "://" in text:
        raise UserError(
            f"--output_dir={text} is an address; give a folder of this machine, and copy the run "
            "from there."
        )
    # TensorFlow looks for checkpoints by patterns.
    wrong = sorted(set(text) & set("*?[]\0\n"))
    if wrong:
        raise UserError(
            f"--output_dir={text!r} holds {wrong[0]!r}, which a run cannot be found by again; "
            "choose another name."
        )
    # The shell leaves the ~ of --output_dir=~/run alone. Absolute, as a user's own code, which is
    # loaded later, may change the current folder.
    return pathlib.Path(os.path.expanduser(output_dir)).absolute()


def _new_default(runs, program):
    """Makes `runs`/<program>-<time>, with a number behind it when that is taken."""
    runs.mkdir(exist_ok=True)
    stem = f"{program}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        path = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path


def _refuse_contents(path):
    """Raises UserError if there is something at `path` that a new run would run over."""
    if path.exists() and not path.is_dir():
        raise UserError(f"--output_dir={path} is a file; give a directory.")
    if not path.is_dir():
        return
    ours = {path / lock.FILE_NAME, *_leftovers(path)}
    if (path / "config.json").exists():
        raise UserError(
            f"{path} holds a run already; give another --output_dir, or go on with it by --resume "
            "if the program has that."
        )
    if any(entry not in ours for entry in path.iterdir()):
        raise UserError(f"{path} is not empty; give another --output_dir.")


def _leftovers(path):
    """Returns the temporary files of `files.replacing` that a killed process left at `path`."""
    names = ["config.json", "metrics.csv", "summary.json", "privacy.json", "privacy.txt"]
    names += ["members.json", "seal.json", "steps.json", "rounds.json"]
    patterns = [f".{pathlib.Path(name).stem}-*{pathlib.Path(name).suffix}" for name in names]
    patterns += [".model-*.keras", "plots/.*-*.png"]
    return [file for pattern in patterns for file in path.glob(pattern)]


def _remove_leftovers(path):
    for leftover in _leftovers(path):
        leftover.unlink(missing_ok=True)


def _read_or_none(path):
    try:
        return json_files.read(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); run the program again.") from error


def _unwritable(path, error):
    return UserError(
        f"{path} cannot be written ({error.strerror or error}); give an --output_dir where files "
        "may be made."
    )
