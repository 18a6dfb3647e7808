"""Written whole or not at all, and never over another file unless told to."""

import os
import stat
import sys

import numpy as np
import pytest

from logitherm.io import InputError, check_target, write_npz, write_whole, writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_written_whole(tmp_path):
    write_whole(tmp_path / "a.json", b"{}")
    assert (tmp_path / "a.json").read_bytes() == b"{}"
    assert names(tmp_path) == ["a.json"]


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "a.json"
    write_whole(path, b"old")
    with pytest.raises(InputError, match=r"a.json: exists; pass force=True"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_crash_in_the_middle_leaves_nothing_behind(tmp_path, monkeypatch, step, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(writing.os, step, fail)
    with pytest.raises(type(error)) as caught:
        write_whole(tmp_path / "new.json", b"x" * 1000)
    if isinstance(error, OSError):
        assert "new.json: cannot be written (No space left on device)" in str(caught.value)
        assert ".part" not in str(caught.value)
    assert names(tmp_path) == []
    (tmp_path / "old.json").write_bytes(b"old")
    with pytest.raises(type(error)):
        write_whole(tmp_path / "old.json", b"new", force=True)
    assert names(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_bytes() == b"old"


def test_a_crash_between_two_arrays_leaves_nothing_behind(tmp_path):
    class Breaks:
        def __array__(self, dtype=None, copy=None):
            raise MemoryError("no room")

    with pytest.raises(MemoryError):
        write_npz(tmp_path / "p.npz", {"a": np.zeros(1000), "b": Breaks()})
    assert names(tmp_path) == []


def test_a_file_made_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    real = os.fsync

    def slow(descriptor):
        path.write_bytes(b"theirs")
        real(descriptor)

    monkeypatch.setattr(writing.os, "fsync", slow)
    with pytest.raises(InputError, match="exists"):
        write_whole(path, b"ours")
    assert names(tmp_path) == ["a.json"]
    assert path.read_bytes() == b"theirs"


def test_targets_that_cannot_be(tmp_path):
    with pytest.raises(InputError, match="folder does not exist"):
        check_target(tmp_path / "no" / "a.json")
    with pytest.raises(InputError, match="it is a folder"):
        check_target(tmp_path, force=True)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no devices as files here")
def test_a_device_is_never_replaced():
    with pytest.raises(InputError, match="it is a device"):
        write_whole("/dev/null", b"x", force=True)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_closed_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="not writable"):
        check_target(tmp_path / "a.json")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")
def test_permissions_follow_the_umask_and_links_are_followed(tmp_path):
    old = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.json", b"1")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    (tmp_path / "link.json").symlink_to("a.json")
    with pytest.raises(InputError, match="exists"):
        write_whole(tmp_path / "link.json", b"2")
    write_whole(tmp_path / "link.json", b"2", force=True)
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "a.json").read_bytes() == b"2"


def test_npz_round_trip(tmp_path):
    arrays = {"probabilities": np.float16([[0.25, 0.75]]), "more": np.arange(3)}
    write_npz(tmp_path / "p.npz", arrays)
    with np.load(tmp_path / "p.npz") as back:
        for name, value in arrays.items():
            assert back[name].dtype == value.dtype
            np.testing.assert_array_equal(back[name], value)
    assert names(tmp_path) == ["p.npz"]


def test_npz_needs_its_suffix_and_plain_arrays(tmp_path):
    with pytest.raises(InputError, match=r"ends in .npz"):
        write_npz(tmp_path / "p.txt", {"a": np.zeros(1)})
    with pytest.raises(ValueError, match="pickle"):
        write_npz(tmp_path / "p.npz", {"a": np.array([object()])})
    assert names(tmp_path) == []
