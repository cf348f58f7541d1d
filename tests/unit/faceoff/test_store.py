import errno
import os
from pathlib import Path

import pytest

from faceoff.errors import UsageError
from faceoff.store import Store, replacing_directory, roots_of, write_atomic


def test_a_finished_folder_replaces_the_old_one_whole(tmp_path):
    final = tmp_path / "model"
    final.mkdir()
    (final / "old").touch()
    with replacing_directory(final) as work:
        (work / "new").touch()
        assert (final / "old").exists()
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path):
    final = tmp_path / "model"
    final.mkdir()
    (final / "old").touch()
    with pytest.raises(KeyboardInterrupt), replacing_directory(final) as work:
        (work / "half").touch()
        raise KeyboardInterrupt
    assert [path.name for path in final.iterdir()] == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_write_atomic_leaves_no_temporary_file(tmp_path):
    write_atomic(tmp_path / "a" / "file.json", "text")
    assert (tmp_path / "a" / "file.json").read_text() == "text"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file.json"]


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "/abs"])
def test_a_run_name_is_one_plain_folder(tmp_path, name):
    with pytest.raises(UsageError, match="RUN="):
        Store(results=tmp_path).run_dir(name)


@pytest.mark.parametrize("option", ["artifacts", "results"])
@pytest.mark.parametrize("below", ["", "x", "x/y"])
def test_a_root_that_is_a_file_or_below_one_is_refused(tmp_path, option, below):
    (tmp_path / "file").touch()
    root = tmp_path / "file" / below
    with pytest.raises(
        UsageError, match=rf"^--{option} {root}: .*/file is no folder, expected .* \(set {option.upper()}="
    ) as caught:
        Store(**{option: root})
    assert "\n" not in str(caught.value)


def test_a_root_that_is_not_there_yet_and_one_that_is_a_link_are_fine(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    Store(artifacts=tmp_path / "a" / "b", results=tmp_path / "link")
    Store(artifacts=tmp_path / ("x" * 1000))  # what cannot be a name shows when it is made
    assert not (tmp_path / "a").exists()


def blamed(root: Path, error: OSError) -> type[BaseException]:
    with pytest.raises((OSError, UsageError)) as caught, roots_of({"results": root, "model": "cnn"}):
        raise error
    return caught.type


def test_what_comes_of_a_root_is_the_users_mistake_and_nothing_else_is(tmp_path):
    root, none = tmp_path / "results", tmp_path / "none"
    root.mkdir()
    for code, user in ((errno.EACCES, True), (errno.EROFS, True), (errno.ENOENT, False), (errno.ENOSPC, False)):
        error = OSError(code, os.strerror(code), str(root / "run" / "file"))
        assert blamed(root, error) is (UsageError if user else type(error))
    assert blamed(none, FileNotFoundError(errno.ENOENT, "none", str(none / "run"))) is UsageError
    assert blamed(none / "deeper", FileNotFoundError(errno.ENOENT, "none", str(none))) is UsageError
    assert blamed(none, FileNotFoundError(errno.ENOENT, "none", str(tmp_path / "other"))) is FileNotFoundError
    assert blamed(root, PermissionError(errno.EACCES, "denied", str(tmp_path / "other"))) is PermissionError
    assert blamed(root, OSError("no file in it")) is OSError


def test_a_link_to_a_root_is_the_same_root(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert blamed(tmp_path / "link", PermissionError(errno.EACCES, "denied", str(tmp_path / "real" / "x"))) is UsageError
