import pytest

from faceoff.errors import UsageError
from faceoff.store import Store, replacing_directory, write_atomic


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
