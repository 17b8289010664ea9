"""One client's papers and names: the door that sessions go through."""

from __future__ import annotations

from gateway.jail import Tree
from gateway.sftp.book import Book, Parts
from gateway.sftp.closing import Closing
from gateway.sftp.handles import HandleCount
from gateway.sftp.naming import Naming
from gateway.sftp.opening import Opening
from gateway.sftp.quota import Quota
from gateway.sftp.reading import Reading
from gateway.sftp.writing import Writing


class Papers:
    """Shared by all sessions of a client in this process; used on the event loop only."""

    def __init__(self, client: str, tree: Tree, parts: Parts, max_handles: int = 1024, quota: Quota | None = None) -> None:
        self.book = Book(client, tree, parts, quota=quota)
        self.tree = tree
        self.quota = self.book.quota
        self.handles = HandleCount(max_handles)
        self.closing = Closing(self.book)
        self.opening = Opening(self.book, self.closing)
        self.writing = Writing(self.book, self.opening, self.closing)
        self.reading = Reading(self.book, self.opening, self.closing)
        self.names = Naming(self.book, self.opening, self.closing)
