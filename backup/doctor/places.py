"""Where backups go: whether each place answers, lies where it may, and is asked with separate credentials; and who hears of trouble."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from backup.doctor.finding import Finding
from backup.repositories.access import S3_ROLES, file_credentials, is_offsite
from backup.repositories.places import place
from backup.status.backups import copy_is_offsite
from config.advice import setting
from config.errors import NightsafeError
from config.loading import Installation
from config.words import counted


def check_bucket(installation: Installation) -> Iterator[Finding]:
    """The first bucket: reachable for every credential, in an allowed region, over TLS, elsewhere."""
    s3 = installation.settings.s3
    if s3.is_embedded:
        yield Finding("warning", "offsite", "backups stay on this machine", "a fire, a thief or a dead disk takes papers and backups at once",
                      "see docs/how-to/use-your-own-s3.md")  # fmt: skip
    elif not is_offsite(s3.endpoint):
        yield Finding("warning", "offsite", f"{s3.endpoint} is this machine, or one beside it", "what hits this place hits the backups too",
                      "see docs/how-to/use-your-own-s3.md, docs/how-to/keep-three-copies.md")  # fmt: skip
    if urlsplit(s3.endpoint).scheme == "http" and is_offsite(s3.endpoint):
        yield Finding(
            "bad", "bucket", f"{s3.endpoint} is asked without TLS", "credentials and requests can be read and changed on the way",
            setting("s3", "endpoint", s3.endpoint.replace("http://", "https://", 1)),
        )  # fmt: skip
    for role in S3_ROLES if not s3.is_embedded else S3_ROLES[:2]:
        yield from _answers(installation, role, "")
    if not s3.is_embedded:
        pairs = {file_credentials(installation, role) for role in S3_ROLES}
        if len(pairs) < len(S3_ROLES):
            yield Finding("warning", "credentials", "one S3 credential serves for writing, reading or deleting at once",
                          "whoever breaks into this machine can delete the backups", "see docs/how-to/use-your-own-s3.md")  # fmt: skip
    if not installation.settings.backup.allowed_regions and not s3.is_embedded:
        yield Finding(
            "note", "region", "any region will do", "papers could leave the country by a mistake in the settings",
            setting("backup", "allowed_regions", [s3.region]),
        )  # fmt: skip


def check_copies(installation: Installation) -> Iterator[Finding]:
    """The other places."""
    for name, copy in sorted(installation.settings.copies.items()):
        yield from _answers(installation, "reader", name)
        if not copy.drill_schedule:
            yield Finding("note", "copies", f"no clock drills the copy '{name}'", "nobody knows whether it would come back",
                          setting(f"copies.{name}", "drill_schedule", "15 4 * * sun"))  # fmt: skip
    if not any(copy_is_offsite(copy) for copy in installation.settings.copies.values()):
        yield Finding("note", "copies", "there is no second place elsewhere", "one provider's mistake, or one stolen account, takes every backup",
                      "see docs/how-to/keep-three-copies.md")  # fmt: skip


def _answers(installation: Installation, role: str, copy: str) -> Iterator[Finding]:
    where = f"copy {copy}" if copy else "bucket"
    try:
        place(installation, role, copy=copy).check()  # type: ignore[arg-type]
    except NightsafeError as error:
        yield Finding("bad", where, f"{role}: {error.message}", "no backup, no drill and no restore without it", error.hint)
    else:
        yield Finding("good", where, f"answers the {role}'s credential")


def check_notices(installation: Installation) -> Iterator[Finding]:
    """Whether anybody hears of it when something goes wrong at night."""
    if not installation.settings.notify.events:
        yield Finding("warning", "notices", "nobody is told of anything", "a backup that fails for a month is found on the day it is needed",
                      "see docs/how-to/be-told.md")  # fmt: skip
    else:
        yield Finding("good", "notices", counted(len(installation.settings.notify.events), "receiver"))
