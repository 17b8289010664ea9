"""The one error that leaves the jail: what a client may be told, and nothing of the host."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Literal

from config.errors import NightsafeError

Code = Literal["no_such_file", "permission", "failure", "exists", "bad_message", "no_space", "unsupported", "not_empty"]


class Refused(NightsafeError):
    """A request that was not done. `code` is for the protocol, `text` is safe to send to a client: it never holds a path of the host."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code
        self.text = text


_ANSWERS: dict[int, tuple[Code, str]] = {
    errno.ENOENT: ("no_such_file", "no such file or folder"),
    errno.ENOTDIR: ("no_such_file", "no such file or folder"),
    errno.ELOOP: ("permission", "this is neither a paper nor a folder"),  # a symbolic link, met with O_NOFOLLOW
    errno.ENXIO: ("permission", "this is neither a paper nor a folder"),  # a socket, or a device without a driver
    errno.EACCES: ("permission", "permission denied"),
    errno.EPERM: ("permission", "permission denied"),
    errno.EROFS: ("permission", "the server does not take changes at the moment"),
    errno.EEXIST: ("exists", "the name is taken already"),
    errno.EISDIR: ("failure", "a folder has this name"),
    errno.ENOTEMPTY: ("not_empty", "the folder is not empty"),
    errno.EINVAL: ("failure", "a folder cannot be moved into itself"),
    errno.ENAMETOOLONG: ("bad_message", "the name is too long"),
    errno.ENOSPC: ("no_space", "no space left on the server"),
    errno.EDQUOT: ("no_space", "no space left on the server"),
    errno.EMLINK: ("failure", "the folder holds too many folders"),
}


def refusal(error: OSError) -> Refused:
    """What a client is told of an error of the file system. An unknown one becomes a plain failure."""
    code, text = _ANSWERS.get(error.errno or 0, ("failure", "the server could not do this"))
    return Refused(code, text)


class Translated:
    """`with Translated():` turns every OSError of its block into Refused, the cause kept for the log."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise refusal(error) from error
