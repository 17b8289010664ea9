"""Letting go of repositories that are lost, so that the next backup makes new ones. Only a person does that, and never because something failed."""

from __future__ import annotations

from backup.repositories.locks import still_place
from backup.repositories.places import recorded_name, save_words
from backup.repositories.repository import PASSWORDS, Writer
from backup.restic import RepositoryMissing, WrongPassword
from config.errors import UsageError
from config.loading import Installation
from gateway.audit.events import Event
from gateway.audit.log import AuditLog
from gateway.catalog import Catalog
from gateway.keys.secrets import role_secrets


def give_up(installation: Installation, copy: str, reason: str, person: str) -> None:
    """Forget which repositories a place had; runs and drills of them count no more. What is in the place, and in the old one, is not touched.

    A client's keys may be in them still: certificates of its destruction name them, as lost.

    Raises UsageError when they are there, Busy while somebody works at the place, and what the place raises when it does not answer.
    """
    folder = installation.folder
    with (
        still_place(folder, copy, "wait for it to end; nothing was changed"),
        Catalog.open(folder.catalog) as catalog,
        AuditLog(folder.audit, "ops") as audit,
    ):
        known = [(name, found) for name in PASSWORDS if (found := catalog.repository(recorded_name(name, copy))) is not None]
        writer = Writer.create(installation, role_secrets(installation, "scheduler"), copy=copy)
        writer.place.check()
        there = []
        for name, recorded in known:
            try:
                there += [name] if writer.restic(name).config() == recorded.restic_id else []
            except (RepositoryMissing, WrongPassword):
                continue
        if there:
            raise UsageError(f"the repository of the {there[0]} is there: nothing is lost", f"back up as ever: {save_words(copy)}")
        for name, recorded in known:
            facts = {"repository": recorded_name(name, copy), "url": recorded.url, "restic_id": recorded.restic_id}
            audit.append(Event.REPOSITORY_GIVEN_UP, durable=True, person=person, reason=reason, **facts)
            catalog.give_up_repository(recorded_name(name, copy))
