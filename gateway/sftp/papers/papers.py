"""One client's papers and names: the door that sessions go through."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from config.words import counted
from gateway.catalog.limits import Limits
from gateway.jail import Refused, Tree
from gateway.sftp.limits.pace import Pace
from gateway.sftp.limits.rooms import Room
from gateway.sftp.papers.book import Book, Parts
from gateway.sftp.papers.closing import Closing
from gateway.sftp.papers.naming import Naming
from gateway.sftp.papers.opening import Opening
from gateway.sftp.papers.reading import Reading
from gateway.sftp.papers.writing import Writing
from gateway.sftp.session.handles import HandleCount


class Papers:
    """Shared by all sessions of a client in this process; used on the event loop only."""

    def __init__(self, client: str, tree: Tree, parts: Parts, max_handles: int = 1024, room: Room | None = None) -> None:
        self.book = Book(client, tree, parts, quota=room.quota if room else None)
        self.tree = tree
        self.users: WeakSet[object] = WeakSet()  # whoever works with them, as long as they are there
        self.quota = self.book.quota
        self.limits = Limits()
        self.pace = room.pace if room else Pace()
        self.places = room.places if room else None
        self._most_handles = max_handles
        self.handles = HandleCount(max_handles)
        self.closing = Closing(self.book)
        self.opening = Opening(self.book, self.closing)
        self.writing = Writing(self.book, self.opening, self.closing)
        self.reading = Reading(self.book, self.opening, self.closing)
        self.names = Naming(self.book, self.opening, self.closing)

    def take_limits(self, limits: Limits) -> None:
        """What the client may have and do from now on, in sessions that are open, too."""
        self.limits = self.quota.limits = limits
        self.pace.limit(limits.upload, limits.download)
        self.handles.limit = self._most_handles if limits.handles is None else min(limits.handles, self._most_handles)

    def take_place(self) -> Callable[[], None]:
        """Count one more session of the client; what gives its place back. Raises Refused when the client has all it may have."""
        places, limit = self.places, self.limits.sessions
        if places is None:
            return lambda: None
        if limit is None:
            places.enter()
            return places.leave
        try:
            number = places.take(limit)
        except OSError as error:
            raise Refused("failure", "the sessions that are open cannot be counted") from error
        if number is None:
            raise Refused("failure", f"the client has {counted(limit, 'session')}, and may have no more")
        return lambda: places.give(number)

    @property
    def is_idle(self) -> bool:
        """Whether nobody uses them and nothing of theirs is under way: they may be closed, and made anew when somebody comes."""
        return not self.users and not self.handles.taken and not self.book.drafts and self.book.turns.idle

    def close(self) -> None:
        """Give back what is shared with other processes, and the tree."""
        self.quota.close()
        self.pace.close()
        if self.places is not None:
            self.places.close()
        self.tree.close()
