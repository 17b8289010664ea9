"""Lines of the status about the house itself: its roles, the papers on their way, the scanner, the keys, the disk, who is kept out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta

from backup.status.line import Line, age_words
from config.advice import log_of
from config.console import human_bytes
from config.errors import OutOfReach
from config.inodes import lacks_inodes
from config.loading import Installation
from config.roles import has_users, instance_name, missing_schedulers, role_state, starter
from config.words import counted
from gateway.catalog import Catalog
from gateway.catalog.rows import DELETED
from gateway.keys.keyring import Keyring
from gateway.keys.report import client_keys, renewed_keys
from gateway.sftp.defender.bans import read_bans

BACKLOG_MINUTES = 10
# The keys that time wears, because a stolen one opens papers; each with what renews it.
_RENEWED = {"master": "nightsafe keys rotate-master", "ingest": "nightsafe keys rotate-ingest", "client": "nightsafe client rotate-key"}
FEW_INODES = 0.1  # of all that a file system has
FREE_SPACE = "free some space on this disk; what papers take and which are due: nightsafe retention report; see docs/reference/capacity.md"
MORE_INODES = "move to a file system with more of them, see docs/reference/capacity.md"
SCAN_STATE = "scan.json"  # in run/, written by ingest


def roles(installation: Installation) -> Line:
    """Whether all roles run."""
    ingests = [instance_name("ingest", number) for number in range(1, installation.settings.ingest.processes + 1)]
    wanted = ["gateway", "keyd", *ingests, *(["s3"] if installation.settings.s3.is_embedded else [])]
    missing = [role for role in wanted if role_state(installation.folder, role) is None]
    if installation.settings.backup.started_by == "scheduler":
        wanted.append("scheduler")
        missing += missing_schedulers(installation.folder)
    if "s3" in missing and has_users(installation.folder):
        missing.remove("s3")  # whatever starts the others does not start it
        if not missing:
            todo = "the embedded S3 server is no service of an installed Nightsafe: name one of your own in [s3], see docs/how-to/use-your-own-s3.md"
            return Line("roles", "red", "no S3 service for the backups", todo)
    if missing:
        return Line("roles", "red", f"not running: {', '.join(missing)}", f"start them: {starter(installation.folder)}")
    return Line("roles", "green", f"running: {', '.join(wanted)}")


def papers(catalog: Catalog, now: datetime) -> Iterator[Line]:
    """How many there are, how many came today (by the clock of this machine), how many lie in quarantine."""
    count, size = catalog.count_papers(state="accepted")
    today, last = catalog.arrivals(now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0))
    arrived = f"{today} today, the last {age_words(now - last)} ago" if last else "none today"
    yield Line("papers", "green", f"{count} sealed, {human_bytes(size)}; {arrived}")
    refused, _ = catalog.count_papers(state="refused", without_code=DELETED)
    if refused:
        text = f"{counted(refused, 'refused paper waits', 'refused papers wait')} to be released or deleted"
        yield Line("refused", "yellow", text, "look at them: nightsafe quarantine list; then see docs/how-to/decide-about-refused-papers.md")


def held(catalog: Catalog) -> Iterator[Line]:
    """Papers that a check holds, by what they wait for."""
    codes: dict[str, int] = {}
    for paper in catalog.held():
        codes[paper.code] = codes.get(paper.code, 0) + 1
    if codes:
        reasons = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
        todo = "look at them: nightsafe held list; then see docs/how-to/scan-for-viruses.md"
        yield Line("held", "yellow", f"{counted(sum(codes.values()), 'paper waits', 'papers wait')} for a check: {reasons}", todo)


def scan(installation: Installation) -> Line:
    """Whether papers are scanned, by what ingest wrote when that changed last."""
    if installation.settings.scan.scanner == "off":
        return Line("virus scan", "yellow", "off", "see docs/how-to/scan-for-viruses.md")
    try:
        state = json.loads((installation.folder.run / SCAN_STATE).read_bytes())
        ready, fault, notes, engine = bool(state["ready"]), str(state["fault"]), [str(note) for note in state["notes"]], str(state["engine"])
    except (OSError, ValueError, KeyError, TypeError):
        return Line("virus scan", "red", "nothing is known of the scanner", _of_ingest(installation))
    if not ready:
        then = {"hold": "papers are held", "accept": "papers are accepted unscanned", "refuse": "papers are refused"}
        todo = "see docs/how-to/scan-for-viruses.md; held papers go on by themselves"
        return Line("virus scan", "red", f"{fault}; {then[installation.settings.scan.unavailable]}", todo)
    if notes:
        return Line("virus scan", "yellow", "; ".join([engine, *notes]), "see docs/how-to/scan-for-viruses.md")
    return Line("virus scan", "green", engine)


def backlog(installation: Installation, now: datetime, waiting: set[str]) -> Line:
    """Landed papers that are not sealed yet; `waiting` are ids of those that a check holds."""
    oldest: float | None = None
    count = 0
    with os.scandir(installation.folder.spool_landed) as entries:
        for entry in entries:
            if entry.name in waiting:
                continue
            count += 1
            with suppress(FileNotFoundError):
                oldest = min(oldest or now.timestamp(), entry.stat(follow_symlinks=False).st_mtime)
    if not count:
        return Line("backlog", "green", "every landed paper is sealed")
    age = timedelta(seconds=max(0.0, now.timestamp() - (oldest or now.timestamp())))
    text = f"{counted(count, 'paper waits', 'papers wait')} to be sealed, the oldest for {age_words(age)}"
    if age > timedelta(minutes=BACKLOG_MINUTES):
        return Line("backlog", "red", text, _of_ingest(installation))
    return Line("backlog", "green", text)


def _of_ingest(installation: Installation) -> str:
    """What to do about ingest, which seems not to do its work."""
    if role_state(installation.folder, "ingest") is None:
        return f"ingest does not run; start it: {starter(installation.folder)}"
    return f"look at the log lines of ingest: {log_of(installation.folder, 'ingest')}"


def keys(installation: Installation, catalog: Catalog, now: datetime) -> Line:
    """The age of the oldest key that opens papers. A client's older generations are only for reading and do not count; neither does the recovery
    key, which others join and none replaces, nor what signs, logs in or opens repositories, but no paper."""
    newest: dict[tuple[str, str, str], datetime] = {}
    for whose, made_at in _ages(Keyring(installation.folder), catalog):
        newest[whose] = max(made_at, newest.get(whose, made_at))
    (name, client, kind), made_at = min(newest.items(), key=lambda item: item[1])
    days, limit = (now - made_at).days, installation.settings.keys.max_age_days
    text = f"the oldest is {counted(days, 'day')} old ({f'of the client {client}' if client else name})"
    if days <= limit:
        return Line("keys", "green", text)
    words = [_RENEWED[name], client] if client else [_RENEWED[name]]
    if kind == "managed" and any(other == client and one != kind for _, other, one in newest):
        words.append("--outbox")  # of a deposit-only client
    if kind == "external":
        words.append("--recipient age1…")
    return Line("keys", "yellow", text, f"{' '.join(words)}; see docs/how-to/rotate-keys.md")


def _ages(keyring: Keyring, catalog: Catalog) -> Iterator[tuple[tuple[str, str, str], datetime]]:
    """((whose, client, kind), made at) of each generation of each key that is renewed in time."""
    for key in renewed_keys(keyring):
        yield (key.key, "", ""), key.made_at
    destroyed = {one.client for one in catalog.destructions()}
    for client in catalog.clients():
        if client.name in destroyed:
            continue
        try:
            yield from [(("client", client.name, key.kind), key.made_at) for key in client_keys(keyring, client.name)]
        except PermissionError:  # the page's own user, who may not look into the folder of identities; the catalog knows their times, too
            yield from [(("client", client.name, ""), key.created_at) for key in client.keys]


def bans(installation: Installation, now: datetime) -> Line:
    """Addresses that are kept out now."""
    try:
        found = read_bans(installation.folder.defender, now.timestamp())
    except OutOfReach as error:
        return Line("bans", "yellow", error.message, error.hint)
    if not found:
        return Line("bans", "green", "nobody is banned")
    newest = age_words(timedelta(seconds=now.timestamp() - found[-1].since))
    return Line("bans", "green", f"banned addresses: {len(found)}, the newest made {newest} ago (nightsafe defender list)")


def disk(installation: Installation) -> Line:
    """Free space and inodes on the disk of the data folder, against the reserve."""
    space = os.statvfs(installation.folder.root)
    free, reserve = space.f_bavail * space.f_frsize, installation.settings.gateway.reserve_bytes
    text = f"{human_bytes(free)} free"
    if free < reserve:
        return Line("disk", "red", f"{text}, less than the reserve of {human_bytes(reserve)}: uploads are refused", FREE_SPACE)
    if lacks_inodes(space):
        return Line("disk", "red", f"{text}, but only {counted(space.f_favail, 'inode')}: uploads are refused", MORE_INODES)
    if space.f_favail < space.f_files * FEW_INODES:
        return Line("disk", "yellow", f"{text}, and {counted(space.f_favail, 'inode')} of {space.f_files}", MORE_INODES)
    if free < 4 * reserve:
        return Line("disk", "yellow", f"{text}; uploads are refused below {human_bytes(reserve)}", FREE_SPACE)
    return Line("disk", "green", text)
