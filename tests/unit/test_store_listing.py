"""Listings of the spool by many threads at once are whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gateway.age import Identity
from gateway.store.ids import new_paper_id
from gateway.store.spool import Spool


def test_threads_that_list_at_once_see_every_paper(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "landed").mkdir()
    papers = sorted(new_paper_id() for _ in range(300))
    for paper in papers:
        (tmp_path / "landed" / paper).touch()
    spool = Spool(tmp_path / "partial", tmp_path / "landed", Identity.generate().recipient)
    with ThreadPoolExecutor(4) as pool:
        listings = list(pool.map(lambda _: spool.landed_papers(), range(400)))
    assert all(listing == papers for listing in listings)
