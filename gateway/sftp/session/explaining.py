"""What a client is told when a request fails: a code and a text that tells nothing of the host."""

from __future__ import annotations

import structlog

from config.errors import NightsafeError
from gateway.jail import Refused
from gateway.keys.errors import KeydUnavailable, KeyRefused
from gateway.sftp.limits.space import NO_SPACE
from gateway.sftp.protocol.wire import Status
from gateway.store.errors import SpoolTooLarge, SpoolTorn, StoreFull

log = structlog.get_logger()

_STATUS: dict[str, Status] = {
    "no_such_file": Status.NO_SUCH_FILE,
    "permission": Status.PERMISSION_DENIED,
    "bad_message": Status.BAD_MESSAGE,
    "unsupported": Status.OP_UNSUPPORTED,
}
_KEYS_AWAY = "papers cannot be read at the moment; uploads go on; try again in a few minutes"


def explain(error: Exception, session: str) -> tuple[Status, str]:
    """The STATUS code and text for `error`; what a person has to look at is logged with the `session`."""
    if isinstance(error, Refused):
        return _STATUS.get(error.code, Status.FAILURE), error.text
    if isinstance(error, StoreFull):
        return Status.FAILURE, NO_SPACE
    if isinstance(error, SpoolTooLarge):
        return Status.FAILURE, "papers may not be that large"
    if isinstance(error, SpoolTorn):
        return Status.FAILURE, "the upload is shorter than it was said to be; look at its size again and resume from there"
    if isinstance(error, KeydUnavailable):
        log.warning("keyd.unavailable", error=error.message)
        return Status.FAILURE, _KEYS_AWAY
    if isinstance(error, KeyRefused):
        return Status.PERMISSION_DENIED, "the paper's key was refused; too many requests, or no longer permitted"
    if isinstance(error, NightsafeError):
        log.warning("request.failed", error=error.message, kind=type(error).__name__, session=session)
        return Status.FAILURE, "the server could not do this"
    log.error("request.crashed", exc_info=error, session=session)
    return Status.FAILURE, "the server could not do this"
