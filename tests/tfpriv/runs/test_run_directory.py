import json
import os
import pathlib
import re
import subprocess

import pytest

from tfpriv.errors import UserError
from tfpriv.runs import json_files, provenance
from tfpriv.runs.run_directory import RunDirectory

_FLAGS = {"rounds": 100, "clip_norm": 0.5, "model": None, "output_dir": "a", "layers": (1, 2)}


def _create(path, flags=_FLAGS, **more):
    return RunDirectory.create(path, flags, program="federated", **more)


def _resume(path, flags=_FLAGS, **more):
    return RunDirectory.resume(path, flags, program="federated", **more)


def test_config_says_what_the_run_was_made_with(tmp_path):
    with _create(tmp_path / "run", seeds={"noise": 3}, data={"name": "digits"}) as run:
        run.write_config(data={"name": "mnist", "sha256": "ab"})
        config = json.loads((run.path / "config.json").read_text())
    assert config["program"] == "federated"
    assert config["flags"] == {**_FLAGS, "layers": [1, 2]}
    assert config["seeds"] == {"noise": 3}
    assert config["data"] == {"name": "mnist", "sha256": "ab"}
    assert config["versions"] == provenance.versions()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", config["started"])
    assert config == run.config


def test_without_a_name_each_run_gets_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [_create(None), _create(""), _create(None)]
    paths = {run.path for run in runs}
    assert len(paths) == 3
    for path in paths:
        assert path.parent == tmp_path / "runs"
        assert re.fullmatch(r"federated-\d{8}-\d{6}(-\d+)?", path.name)


def test_an_empty_directory_and_a_new_deep_one_are_taken(tmp_path):
    (tmp_path / "empty").mkdir()
    _create(tmp_path / "empty").close()
    _create(tmp_path / "a" / "b" / "c").close()


def test_a_run_that_is_there_is_not_run_over(tmp_path):
    _create(tmp_path).close()
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError, match="holds a run already; give another --output_dir, or"):
        _create(tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_directory_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="is not empty; give another --output_dir"):
        _create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_killed_before_its_config_does_not_block_the_directory(tmp_path):
    (tmp_path / ".lock").write_text("1\n")
    (tmp_path / ".config-x1y2.json").write_text("{")
    with _create(tmp_path) as run:
        assert run.files() == [tmp_path / "config.json"]
    assert not (tmp_path / ".config-x1y2.json").exists()


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file is a file; give a directory"):
        _create(tmp_path / "file")
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\); give an"):
        _create(tmp_path / "file" / "run")


@pytest.mark.parametrize("path", ["/proc/tfpriv_run", "/proc/self/fd", "x" * 300])
def test_a_place_that_cannot_be_written_is_named(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"{path[:20]}.*output_dir"):
        _create(path)


@pytest.mark.parametrize("name", ["a[1]", "what?", "all*", "nul\0", "two\nlines"])
def test_a_name_that_a_run_would_not_be_found_by_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="which a run cannot be found by again"):
        RunDirectory.create(tmp_path / name, {}, program="central")
    assert list(tmp_path.iterdir()) == []


def test_an_address_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--output_dir=gs://bucket/run is an address"):
        RunDirectory.create("gs://bucket/run", {}, program="central")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use_is_refused(tmp_path):
    named = rf"in use by another run \(process {os.getpid()}\)"
    with _create(tmp_path), pytest.raises(UserError, match=named):
        _resume(tmp_path)
    _resume(tmp_path).close()


def test_a_directory_that_fills_up_is_named_and_left_free(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(json_files, "write", full)
        with pytest.raises(UserError, match="No space left on device") as caught:
            _create(tmp_path)
    assert caught.traceback  # It keeps the frames, and with them an open lock, alive.
    _create(tmp_path).close()


def test_a_refused_resume_leaves_the_directory_free(tmp_path):
    _create(tmp_path).close()
    with pytest.raises(UserError):
        _resume(tmp_path, {**_FLAGS, "rounds": 5})
    _resume(tmp_path).close()


def test_resume_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is no run in .*no config\.json"):
        _resume(tmp_path / "nowhere")
    with pytest.raises(UserError, match="there is no run"):
        _resume(tmp_path)
    with pytest.raises(UserError, match="--resume needs --output_dir"):
        _resume(None)
    assert not list(tmp_path.iterdir())


def test_resume_with_other_flags_names_each_with_both_values(tmp_path):
    _create(tmp_path).close()
    flags = {**_FLAGS, "rounds": 200, "model": "cnn", "new": 1, "output_dir": "b"}
    del flags["clip_norm"]
    with pytest.raises(UserError) as caught:
        _resume(tmp_path, flags)
    message = str(caught.value)
    assert "--rounds=100 (now 200)" in message
    assert '--model=null (now "cnn")' in message
    assert "--clip_norm=0.5 (now not a flag)" in message
    assert "--new=not a flag (now 1)" in message
    assert "output_dir=" not in message
    assert "layers" not in message


def test_flags_that_may_differ_do_not_matter(tmp_path):
    _create(tmp_path).close()
    flags = {**_FLAGS, "rounds": 200}
    with _resume(tmp_path, flags, may_differ=("rounds",)) as run:
        assert run.config["flags"]["rounds"] == 100
        assert len(run.config["resumed"]) == 1


def test_another_programs_run_is_refused(tmp_path):
    _create(tmp_path).close()
    with pytest.raises(UserError, match="a run of the program federated, not central"):
        RunDirectory.resume(tmp_path, _FLAGS, program="central")


def test_another_version_is_a_warning_and_not_an_error(tmp_path, caplog):
    with _create(tmp_path) as run:
        versions = {**run.config["versions"], "numpy": "1.0"}
        run.write_config(versions=versions, git_commit="abc")
    _resume(tmp_path).close()
    assert "started with numpy 1.0 and goes on with" in caplog.text
    assert "started at commit abc" in caplog.text
    assert "dp-accounting" not in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"program": "x", "flags": 3}', "\x00"])
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json cannot be used"):
        _resume(tmp_path)


def test_resume_removes_what_a_kill_left_half_written(tmp_path):
    with _create(tmp_path) as run:
        run.metrics.write(1, {"loss": 0.5})
    litter = [tmp_path / ".metrics-ab12.csv", tmp_path / "plots" / ".loss-ab12.png"]
    litter[1].parent.mkdir()
    for path in litter:
        path.write_text("half")
    (tmp_path / ".notes").write_text("mine")
    with _resume(tmp_path) as run:
        assert run.metrics.last_step == 1
    assert not any(path.exists() for path in litter)
    assert (tmp_path / ".notes").exists()


def test_the_step_name_survives_a_resume(tmp_path):
    with _create(tmp_path, step_name="step") as run:
        run.metrics.write(1, {"loss": 0.5})
    with _resume(tmp_path) as run:
        run.metrics.write(2, {"loss": 0.25})
    assert run.read_metrics() == {"step": [1, 2], "loss": [0.5, 0.25]}


def test_summary_is_flat_and_without_nan(tmp_path):
    with _create(tmp_path) as run:
        assert run.summary is None
        run.write_summary({"test_accuracy": 0.5, "epsilon": float("inf"), "model_path": run.path})
        assert run.summary == {
            "test_accuracy": 0.5,
            "epsilon": None,
            "model_path": str(run.path),
        }
        with pytest.raises(ValueError, match="privacy"):
            run.write_summary({"privacy": {"epsilon": 1}})
        assert run.summary["test_accuracy"] == 0.5


def test_privacy_is_written_for_programs_and_for_people(tmp_path):
    with _create(tmp_path) as run:
        run.write_privacy({"epsilon": 2.0}, "Two.")
    assert RunDirectory.open(tmp_path).privacy == {"epsilon": 2.0}
    assert (tmp_path / "privacy.txt").read_text() == "Two.\n"


def test_a_damaged_summary_is_named(tmp_path):
    _create(tmp_path).close()
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json is damaged"):
        _ = RunDirectory.open(tmp_path).summary


def test_an_opened_run_can_be_read_while_it_runs_but_measures_nothing(tmp_path):
    with _create(tmp_path) as run:
        run.metrics.write(1, {"loss": 0.5})
        reader = RunDirectory.open(tmp_path)
        assert reader.read_metrics() == {"round": [1], "loss": [0.5]}
        with pytest.raises(ValueError, match="between create or resume, and close"):
            _ = reader.metrics


def test_files_are_those_for_the_user(tmp_path):
    with _create(tmp_path) as run:
        run.metrics.write(1, {"loss": 0.5})
        (run.checkpoints_path / "1").mkdir(parents=True)
        (run.checkpoints_path / "1" / "variables").write_text("x")
        run.model_path.write_text("x")
        names = [str(path.relative_to(run.path)) for path in run.files()]
    assert names == [
        "checkpoints",
        "config.json",
        "events.out.tfevents.000",
        "metrics.csv",
        "model.keras",
    ]


def test_a_home_directory_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with _create("~/run") as run:
        assert run.path == tmp_path / "run"


def test_the_path_stays_right_when_the_current_folder_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with _create("run") as run:
        monkeypatch.chdir("/")
        run.write_summary({"a": 1})
    assert json_files.read(tmp_path / "run" / "summary.json") == {"a": 1}


def test_flags_that_are_no_json_make_no_directory(tmp_path):
    with pytest.raises(TypeError):
        _create(tmp_path / "run", {"model": object()})
    assert not (tmp_path / "run").exists()


def test_a_commit_is_that_of_the_checkout_and_says_what_differs(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    monkeypatch.delenv("GIT_DIR", raising=False)
    source = tmp_path / "tfpriv"
    source.mkdir()
    (source / "__init__.py").write_text("")
    paper = tmp_path / "experiments" / "presets" / "paper2020"
    paper.mkdir(parents=True)
    for name in ("results.json", "points.json", "expected.json"):
        (paper / name).write_text("{}")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "a")
    assert provenance._git_state(source) == (None, None)  # It is in the folder, not in the commit.
    git("add", ".")
    git("commit", "-q", "-m", "b")
    commit, dirty = provenance._git_state(source)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert dirty is False
    for name in ("results.json", "points.json"):  # What earlier runs measured.
        (paper / name).write_text('{"a": 1}')
    assert provenance._git_state(source) == (commit, False)
    (paper / "expected.json").write_text('{"a": 1}')
    assert provenance._git_state(source) == (commit, True)
    git("checkout", "-q", "--", str(paper / "expected.json"))
    assert provenance._git_state(source) == (commit, False)
    (source / "__init__.py").write_text("x = 1\n")
    assert provenance._git_state(source) == (commit, True)


def test_no_git_is_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance._git_state(pathlib.Path(provenance.__file__).parent) == (None, None)


def test_run_that_goes_on_must_have_what_was_pinned(tmp_path):
    with _create(tmp_path / "run") as run:
        run.pin("noise_multiplier", 1.5)
    with _resume(tmp_path / "run") as run:
        run.pin("noise_multiplier", 1.5)
        with pytest.raises(
            UserError, match=r"began with a noise_multiplier of 1\.5, and .* with 1.25"
        ):
            run.pin("noise_multiplier", 1.25)
    assert run.config["noise_multiplier"] == 1.5
