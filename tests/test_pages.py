"""docs/make_pages.py: a page for what users call, and none for what they do not."""

import html
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of the pages, and what was said while they were made."""
    folder = tmp_path_factory.mktemp("pages")
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_pages.py"), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def text(path):
    return html.unescape(re.sub(r"<[^>]+>", "", path.read_text()))


def test_each_package_has_a_page_and_modules_that_none_exports_have_none(made):
    folder, _ = made
    pages = {path.stem for path in (folder / "tfpriv").glob("*.html")}
    assert {"audit", "central", "datasets", "federated", "models", "privacy", "secure"} <= pages
    assert "listening" not in pages and not list(folder.rglob("trainer.html"))
    # A function of a module of its own name.
    assert not list(folder.rglob("partition.html"))


def test_nothing_is_said_but_where_the_pages_are_and_nothing_else_is_left(made):
    folder, done = made
    assert done.stdout == f"the first page is {folder / 'tfpriv.html'}\n"
    assert done.stderr == ""
    assert {path.name for path in folder.iterdir()} == {
        *("index.html", "search.js", "tfpriv", "tfpriv.html")
    }


def test_what_is_imported_late_is_shown_and_so_are_all_fields_of_a_config(made):
    folder, _ = made
    assert "A finished run, opened to be attacked." in text(folder / "tfpriv" / "audit.html")
    federated = text(folder / "tfpriv" / "federated.html")
    assert "target_epsilon:" in federated.replace(" ", "")
    assert "runs/federated-<date>-<time>" in federated
    assert "make_layer_registry" in text(folder / "tfpriv" / "central" / "layer_registry.html")


def test_no_page_names_a_folder_of_this_machine(made):
    folder, _ = made
    assert [p.name for p in folder.rglob("*.html") if str(ROOT) in p.read_text()] == []
