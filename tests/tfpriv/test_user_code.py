import sys

import pytest

from tfpriv import user_code
from tfpriv.errors import UserError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Starts each test in an empty folder, and forgets what it imported there."""
    monkeypatch.chdir(tmp_path)
    before, path = set(sys.modules), list(sys.path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]
    assert sys.path == path


def test_name_with_a_colon_is_user_code():
    assert user_code.is_user_code("a.py:build")
    assert not user_code.is_user_code("cnn_mcmahan")


def test_function_comes_from_a_file(folder):
    (folder / "my model.py").write_text("def build():\n    return 7\n")
    assert user_code.load_function("my model.py:build", "--model")() == 7


def test_function_comes_from_a_module_in_the_current_folder(folder):
    (folder / "a_users_module.py").write_text("def build():\n    return 8\n")
    assert user_code.load_function("a_users_module:build", "--model")() == 8


def test_function_comes_from_an_installed_module():
    assert user_code.load_function("os.path:join", "--model")("a", "b") == "a/b"


def test_path_with_a_colon_is_taken(folder):
    (folder / "a:b").mkdir()
    (folder / "a:b" / "c.py").write_text("def build():\n    return 9\n")
    assert user_code.load_function("a:b/c.py:build", "--model")() == 9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("build", "is not of the form module:function"),
        (":build", "is not of the form module:function"),
        ("os.path:", "is not of the form module:function"),
        ("none.py:build", "there is no file none.py; correct the path"),
        ("folder/:build", "there is no file folder/"),
        ("no_such_module:build", "there is no module 'no_such_module'; install it"),
        ("os.no_such:build", "there is no module 'os.no_such'; install it"),
        ("os.path:no_such", "os.path has no function 'no_such'"),
        ("os.path:sep", "os.path has no function 'sep'"),
        ("syntax.py:build", r"could not be imported \(SyntaxError"),
        ("raises.py:build", r"could not be imported \(ZeroDivisionError: division by zero\)"),
        ("raises:build", r"could not be imported \(ZeroDivisionError: division by zero\)"),
        ("needs:build", "needs needs the module 'no_such_module', which is not installed"),
        ("./text.txt:build", "is not a Python file"),
    ],
)
def test_what_cannot_be_loaded_is_said(folder, name, message):
    (folder / "folder").mkdir()
    (folder / "text.txt").write_text("def build(): pass\n")
    (folder / "syntax.py").write_text("def build(:\n")
    (folder / "raises.py").write_text("1 / 0\n")
    (folder / "needs.py").write_text("import no_such_module\n")
    with pytest.raises(UserError, match=message) as caught:
        user_code.load_function(name, "--model")
    assert f"--model={name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failed_file_can_be_mended_and_loaded_again(folder):
    path = folder / "mine.py"
    path.write_text("1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        user_code.load_function("mine.py:build", "--model")
    path.write_text("def build():\n    return 1\n")
    assert user_code.load_function("mine.py:build", "--model")() == 1
