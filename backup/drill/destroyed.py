"""What a drill does with destroyed clients: their papers are to be unreadable, so they are left out; a key of theirs is not to come back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backup.drill.judge import Cause, Finding
from backup.drill.keycheck import KeyFile
from gateway.catalog import Catalog, Client, Paper


@dataclass(frozen=True)
class Destroyed:
    """The clients whose destruction has begun, those of them for which it is done: proven; and the papers that retention has ended."""

    begun: frozenset[str]
    done: frozenset[str]
    expired: frozenset[str] = frozenset()

    @classmethod
    def of(cls, live: Catalog) -> Destroyed:
        """As the live catalog has it: a dump may be older than the order."""
        found = live.destructions()
        return cls(frozenset(one.client for one in found), frozenset(one.client for one in found if one.state == "done"), _expired(live))

    def papers(self, rows: Iterable[Paper]) -> Iterator[Paper]:
        """All but theirs, and but the expired ones."""
        return (row for row in rows if row.client not in self.begun and row.id not in self.expired)

    def files(self, files: Iterable[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
        """(client, paper, path) of all vault files but theirs: these stay in older snapshots, and nothing opens them. Expired papers stay
        there until their snapshots are forgotten."""
        return (file for file in files if file[0] not in self.begun and file[1] not in self.expired)

    def clients(self, clients: Iterable[Client]) -> list[Client]:
        """All but they."""
        return [client for client in clients if client.name not in self.begun]

    def keys(self, restored: Mapping[str, KeyFile]) -> dict[str, KeyFile]:
        """The key files of everybody else."""
        return {name: file for name, file in restored.items() if file.client not in self.begun}

    def returned(self, restored: Mapping[str, KeyFile]) -> Sequence[Finding]:
        """Keys that came back although their destruction was proven. While it is pending they are expected to."""
        why = "its client was destroyed, and its key is in the backup again: run 'nightsafe client destroy' once more"
        return [
            Finding("", file.client, f"keys/{name}", 0, Cause.KEY_DIFFERS, why) for name, file in sorted(restored.items()) if file.client in self.done
        ]


def _expired(live: Catalog) -> frozenset[str]:
    return frozenset(paper.id for paper in live.papers(state="expired"))
