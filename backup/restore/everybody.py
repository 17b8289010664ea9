"""`restore --all`: the papers of every client, each below a folder of its name. One snapshot, one run, one report.

Clients come one after another, so that the scratch folder holds the sealed papers of one at a time. One whose key is gone does not keep the others
from coming.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from backup.restore.errand import EVERYBODY, Errand, RestoreReport, errand
from backup.restore.papers import Restore, begin, check_outside
from backup.restore.returned import Dump, Wish
from backup.restore.target import Target
from config.console import Progress, Silent
from config.loading import Installation
from gateway.catalog.names import NAME
from gateway.keys.client import KeyAgent, KeyDamaged, KeyGone, KeyLimited, KeyRefused
from gateway.keys.secrets import RoleSecrets


def restore_everybody(
    installation: Installation,
    at: datetime | None,
    target: Path,
    agent: KeyAgent,
    progress: Progress | None = None,
    *,
    secrets: RoleSecrets | None = None,
    copy: str = "",
) -> RestoreReport:
    """Restore everything into `target`/CLIENT/…, as `restore_papers` does for one client. Destroyed clients are left out.

    Raises UsageError (target, no such snapshot), CheckFailed (the snapshot's catalog is unusable), OutOfReach, Busy.
    """
    check_outside(installation, target)
    order = {"client": EVERYBODY, "at": at.isoformat() if at else "", "copy": copy}
    with (
        Target(target, order) as opened,
        errand(installation, EVERYBODY, (), at, secrets, check=lambda _live, _client: None, copy=copy, begun=opened.snapshot) as one,
    ):
        one.returned.fetch_all_names()
        with one.dump() as dump:
            begin(opened, one)
            destroyed = {order.client for order in one.live.destructions()}
            for client in dump.clients():
                if not isinstance(client.name, str) or not NAME.fullmatch(client.name):
                    one.report.miss("a client whose name can be none: the snapshot's catalog is damaged, or somebody altered it")
                elif client.name not in destroyed:
                    _client(one, client.name, agent, opened, progress or Silent(), dump)
    return one.report


def _client(one: Errand, client: str, agent: KeyAgent, target: Target, progress: Progress, dump: Dump) -> None:
    wish = Wish(client, (), one.wish.run)
    its = replace(one, wish=wish, returned=one.returned.of(wish))
    try:
        Restore(its, agent, target, progress, dump, (client,)).restore()
    except KeyLimited:
        raise
    except (KeyRefused, KeyGone, KeyDamaged) as error:
        one.report.miss(f"{client}: {error.message}")
    finally:
        its.returned.drop_papers()
