from __future__ import annotations

import errno

import pytest

from automl.errors import DiskFullError, StorageError, disk_full


def raised_from(error: Exception, cause: BaseException | None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


FULL = OSError(errno.ENOSPC, "No space left on device", "/data/x")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        raised_from(StorageError("cannot be written"), FULL),
        raised_from(RuntimeError("unexpected pos 704"), FULL),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        DiskFullError("the disk is full"),
    ],
    ids=repr,
)
def test_a_full_disk_is_known_however_it_is_told(error: Exception) -> None:
    told = disk_full(error)
    assert told is not None
    assert told.exit_code == 4
    assert "the disk is full" in str(told)


def test_where_it_is_full_is_named() -> None:
    assert str(disk_full(FULL)).startswith("/data/x: the disk is full. Free some space")


@pytest.mark.parametrize("error", [None, OSError(errno.EACCES, "no"), StorageError("is damaged"), ValueError()])
def test_nothing_else_is(error: Exception | None) -> None:
    assert disk_full(error) is None


def test_a_circle_of_causes_ends() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert disk_full(one) is None
