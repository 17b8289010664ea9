"""Manifests in the catalog: what clients say they sent, line by line, compared with what arrived, before or after.

A line that matched once stays so. One that differs, or is missing, is looked at again with every paper of that name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, delete, func, insert, select, tuple_, update

from gateway.catalog import tables as t
from gateway.catalog.database import Database
from gateway.catalog.papers import paper_of
from gateway.catalog.rows import Paper

MOST_OPEN = 200_000  # lines of one client that wait for a paper; more manifests are not compared
TOUCHED = 100  # manifests whose receipts one paper may change
SOME = 300  # paths in one statement


class ManifestQueries:
    """The part of the catalog that compares."""

    _database: Database

    def put_manifest(self, paper: str, client: str, lines: Sequence[tuple[str, str]], unread: int, fault: str) -> None:
        """Remember the lines (path, sha256) of a manifest before its paper is recorded. Done twice, the second takes the place of the first."""
        lines_of = t.manifest_lines
        with self._database.writing() as connection:
            connection.execute(delete(t.manifests).where(t.manifests.c.paper == paper))
            connection.execute(delete(lines_of).where(lines_of.c.manifest == paper))
            waiting = select(func.count()).select_from(lines_of).where(lines_of.c.client == client, lines_of.c.state != "matches")
            if not fault and connection.execute(waiting).scalar_one() + len(lines) > MOST_OPEN:
                fault = "too many lines of earlier manifests are still without their papers"
            connection.execute(insert(t.manifests).values(paper=paper, client=client, unread=unread, fault=fault))
            if lines and not fault:
                rows = [{"manifest": paper, "path": path, "client": client, "sha256": sha256, "state": "missing"} for path, sha256 in lines]
                connection.execute(insert(lines_of), rows)

    def compare_manifests(self, papers: Iterable[Paper]) -> list[Paper]:
        """After `papers` were recorded: compare the manifests among them, and the lines that waited for them. The manifests whose receipts are
        to be written anew, those of `papers` not among them."""
        recorded = {paper.id: paper for paper in papers}
        with self._database.reading() as connection:
            if connection.execute(select(t.manifests.c.paper).limit(1)).first() is None:
                return []
        with self._database.writing() as connection:
            for manifest in _manifests_among(connection, list(recorded)):
                _compare_all(connection, manifest)
            touched: set[str] = set()
            awaited = _awaited(connection, recorded.values())
            for paper in recorded.values():
                if (paper.client, paper.path) in awaited:
                    touched |= _compare_waiting(connection, paper)
            anew = sorted(touched - recorded.keys())
            connection.execute(update(t.papers).where(t.papers.c.id.in_(anew)).values(receipted=False))
            return [paper_of(row) for row in connection.execute(select(t.papers).where(t.papers.c.id.in_(anew)))]

    def manifest(self, paper: str) -> tuple[list[tuple[str, str]], int, str] | None:
        """((path, state) of each line, lines that could not be read, fault) of a manifest; None when the paper is none."""
        with self._database.reading() as connection:
            row = connection.execute(select(t.manifests).where(t.manifests.c.paper == paper)).one_or_none()
            if row is None:
                return None
            lines = connection.execute(select(t.manifest_lines.c.path, t.manifest_lines.c.state).where(t.manifest_lines.c.manifest == paper))
            return [(line.path, line.state) for line in lines], row.unread, row.fault


def _manifests_among(connection: Connection, papers: list[str]) -> list[str]:
    found: list[str] = []
    for start in range(0, len(papers), SOME):
        found += connection.execute(select(t.manifests.c.paper).where(t.manifests.c.paper.in_(papers[start : start + SOME]))).scalars()
    return found


def _compare_all(connection: Connection, manifest: str) -> None:
    lines_of = t.manifest_lines
    lines = connection.execute(select(lines_of).where(lines_of.c.manifest == manifest, lines_of.c.state != "matches")).all()
    for start in range(0, len(lines), SOME):
        some = lines[start : start + SOME]
        arrived = _newest(connection, some[0].client, [line.path for line in some])
        for line in some:
            if line.path in arrived:
                _set(connection, manifest, line.path, "matches" if arrived[line.path] == line.sha256 else "differs")


def _awaited(connection: Connection, papers: Iterable[Paper]) -> set[tuple[str, str]]:
    """Of the names (client, path) of `papers`, those that open lines are about: few or none, as a rule."""
    names: dict[str, list[str]] = defaultdict(list)
    for paper in papers:
        names[paper.client].append(paper.path)
    lines_of, found = t.manifest_lines, set()
    for client, paths in names.items():
        for start in range(0, len(paths), SOME):
            open_ = (lines_of.c.client == client) & lines_of.c.path.in_(paths[start : start + SOME]) & (lines_of.c.state != "matches")
            found |= {(client, path) for path in connection.execute(select(lines_of.c.path).where(open_).distinct()).scalars()}
    return found


def _compare_waiting(connection: Connection, paper: Paper) -> set[str]:
    """The manifests with lines about the name of `paper` that are now told otherwise."""
    lines_of = t.manifest_lines
    if not paper.sha256:
        return set()
    waiting = (
        select(lines_of)
        .where(lines_of.c.client == paper.client, lines_of.c.path == paper.path, lines_of.c.state != "matches")
        .order_by(lines_of.c.manifest.desc())
        .limit(TOUCHED)
    )
    changed = set()
    for line in connection.execute(waiting).all():
        state = "matches" if line.sha256 == paper.sha256 else "differs"
        if state != line.state:
            _set(connection, line.manifest, line.path, state)
            changed.add(line.manifest)
    return changed


def _newest(connection: Connection, client: str, paths: list[str]) -> dict[str, str]:
    """The hash of the newest paper of each name that has one."""
    same = t.papers.c.client == client
    newest = (
        select(t.papers.c.path, func.max(t.papers.c.version))
        .where(same, t.papers.c.path.in_(paths), t.papers.c.sha256 != "")
        .group_by(t.papers.c.path)
    )
    keys = [(row[0], row[1]) for row in connection.execute(newest)]
    if not keys:
        return {}
    found = select(t.papers.c.path, t.papers.c.sha256).where(same, tuple_(t.papers.c.path, t.papers.c.version).in_(keys))
    return {row.path: row.sha256 for row in connection.execute(found)}


def _set(connection: Connection, manifest: str, path: str, state: str) -> None:
    line = (t.manifest_lines.c.manifest == manifest) & (t.manifest_lines.c.path == path)
    connection.execute(update(t.manifest_lines).where(line).values(state=state))
