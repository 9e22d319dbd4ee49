import os
import pathlib

import pytest

from tfpriv.runs.terminal import duration, format_summary, print_safely

_SUMMARY = {
    "test_accuracy": 0.91338,
    "test_loss": 0.29871,
    "rounds": 100,
    "epsilon": 1.99871,
    "epsilon_rdp": 2.1134,
    "delta": 1e-5,
    "privacy_unit": "client",
    "seconds_per_round": 1.1342,
    "wall_seconds": 151.2,
    "model_parameters": 199210,
}
_NAMES = [
    "config.json",
    "events.out.tfevents.000",
    "metrics.csv",
    "model.keras",
    "plots/accuracy.png",
    "plots/clip.png",
    "plots/epsilon.png",
    "plots/loss.png",
    "plots/partition.png",
    "privacy.json",
    "privacy.txt",
    "summary.json",
]


def _files(folder):
    (folder / "checkpoints").mkdir(parents=True)
    return [folder / "checkpoints", *(folder / name for name in _NAMES)]


def test_it_says_accuracy_epsilon_time_and_every_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = _files(tmp_path / "runs" / "federated-20261123-041425")
    text = format_summary(_SUMMARY, files, "What a client adds is hidden.")
    lines = text.splitlines()
    assert lines[:6] == [
        "test accuracy  91.34%",
        "test loss      0.2987",
        "epsilon        1.999 at delta 1e-05, unit client (by RDP 2.114)",
        "time           2 min 31 s, 100 rounds, 1.13 s a round",
        "model          199,210 parameters",
        "  What a client adds is hidden.",
    ]
    folder = "runs/federated-20261123-041425"
    assert lines[6:] == ["files", f"  {folder}/checkpoints/", *(f"  {folder}/{n}" for n in _NAMES)]


@pytest.mark.parametrize("sentences", [0, 1, 6, 50])
@pytest.mark.parametrize("folder", ["a", "long" * 20])
def test_it_fits_on_a_screen_and_names_every_file(tmp_path, monkeypatch, sentences, folder):
    monkeypatch.chdir(tmp_path)
    files = _files(tmp_path / folder)
    text = format_summary(
        _SUMMARY, files, "Nobody can tell if a client took part or not. " * sentences
    )
    lines = text.splitlines()
    assert len(lines) < 24
    assert all(len(line) <= 80 or line == f"files in {folder}/" for line in lines)
    words = text.split()
    assert all(any(word.endswith(name) for word in words) for name in [*_NAMES, "checkpoints/"])


def test_a_long_statement_is_cut_and_says_so():
    text = format_summary(_SUMMARY, [], "A line.\n" * 50)
    assert "(the whole statement is in privacy.txt)" in text
    assert len(text.splitlines()) == 23
    assert "the whole" not in format_summary(_SUMMARY, [], "A line.\n" * 18)


def test_what_was_not_measured_is_left_out():
    text = format_summary({"test_rmse": 53.214, "epsilon": None, "steps": 10}, [])
    assert text.splitlines() == ["test RMSE  53.21", "time       10 steps"]


def test_paths_elsewhere_are_whole():
    text = format_summary({}, [pathlib.Path("/elsewhere/run/summary.json")])
    assert text.splitlines() == ["files", "  /elsewhere/run/summary.json"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (0.02519, "0.0252 s"),
        (9.409, "9.41 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.9, "1 h 00 min"),
        (11220, "3 h 07 min"),
    ],
)
def test_times_are_for_people(seconds, expected):
    assert duration(seconds) == expected


def test_printing_to_nobody_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        print_safely("x" * 100_000, stream)
        print_safely("again", stream)


def test_text_is_printed_with_a_newline(capsys):
    print_safely("ε")
    assert capsys.readouterr().out == "ε\n"
