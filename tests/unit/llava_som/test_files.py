import pytest

from llava_som.files import new_file, new_folder, unfinished_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_that_is_not_finished_leaves_the_one_before(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    for unfinished in (None, path.with_name(".mine")):
        with new_file(path, unfinished) as file:
            file.write(b"whole")
        with pytest.raises(KeyboardInterrupt), new_file(path, unfinished) as file:
            file.write(b"half")
            assert (unfinished or unfinished_path(path)).exists()
            raise KeyboardInterrupt
        assert path.read_bytes() == b"whole" and names(path.parent) == ["a.txt"]


def test_what_a_kill_left_over_is_written_over(tmp_path):
    unfinished_path(tmp_path / "a.txt").write_bytes(b"much longer than the new content")
    with new_file(tmp_path / "a.txt") as file:
        file.write(b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"new" and names(tmp_path) == ["a.txt"]


def test_a_folder_takes_the_place_of_the_one_before_only_as_a_whole(tmp_path):
    folder = tmp_path / "shards"
    for left_over in (unfinished_path(folder), tmp_path / ".shards.old"):
        left_over.mkdir()
        (left_over / "stale").touch()
    with new_folder(folder) as filling:
        (filling / "first").touch()
    with pytest.raises(OSError), new_folder(folder) as filling:
        (filling / "half").touch()
        raise OSError
    assert names(tmp_path) == ["shards"] and names(folder) == ["first"]
    with new_folder(folder) as filling:
        (filling / "second").touch()
    assert names(tmp_path) == ["shards"] and names(folder) == ["second"]
