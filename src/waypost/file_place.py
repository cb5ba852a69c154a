"""Checks the place of a file that is to be opened or made, and says what is wrong with it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from waypost.errors import ConfigurationError

__all__ = ["check_place", "shown"]

# SQLite and the owner's lock put files with longer names beside the file.
_LONGEST_SUFFIX = len("-journal")
_USUAL_NAME_BYTES = 255
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_place(option: str, path: Path) -> None:
    """Check that a regular file stands at a place, or can be made there.

    Args:
        option: The option that names the file, for the error.
        path: The place, with symbolic links resolved.

    Raises:
        ConfigurationError: No file can stand there; the sentence says why.
    """
    longest = _longest_name(path.parent)
    if len(os.fsencode(path.name)) > longest:
        expected = f"a file's name of at most {longest} bytes, received {len(os.fsencode(path.name))}"
        raise ConfigurationError(option, str(path), expected)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        _check_directory(option, path)
        return
    except OSError as error:
        raise ConfigurationError(option, str(path), f"a file that can be opened ({error.strerror})") from error
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise ConfigurationError(option, str(path), f"a regular file, but it is {kind}")


def shown(error: OSError) -> str:
    """Return what an error of the system says, without the path that the sentence around it names."""
    return error.strerror or str(error)


def _check_directory(option: str, path: Path) -> None:
    directory = path.parent
    if not directory.exists():
        expected = f"a file in a directory that exists, but {directory} does not; make it first"
        raise ConfigurationError(option, str(path), expected)
    if not directory.is_dir():
        raise ConfigurationError(option, str(path), f"a file in a directory, but {directory} is none")


def _longest_name(directory: Path) -> int:
    try:
        return os.pathconf(directory, "PC_NAME_MAX") - _LONGEST_SUFFIX
    except (OSError, AttributeError):
        # There is no such question on Windows, and no answer for a directory that does not exist.
        return _USUAL_NAME_BYTES - _LONGEST_SUFFIX
