"""The bundle of an incident: findings, events around, a page, whom to inform; signed, beside the incident."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from config.words import counted
from gateway.audit import page
from gateway.audit.bundle import Bundle, bundling, encode
from gateway.audit.export import write_events
from gateway.audit.read import Filter, read
from gateway.audit.signatures import SigningKey
from gateway.incident.findings import Findings, Subject, findings, look_around
from gateway.incident.ledger import Incident

SHOWN = 1000  # rows of a table on the page


def collect(
    audit: Path,
    incident: Incident,
    subject: Subject,
    since: datetime,
    signer: SigningKey,
    allowed_signers: bytes,
    told: Mapping[str, Any],
) -> tuple[Path, Findings]:
    """Write the next bundle of an incident, of events since `since`; its folder, and what was found. `audit` is the folder of the log, which is
    read twice; `told` are further facts of the manifest. Raises OutOfReach."""
    target = incident.home / f"bundle-{len(incident.bundles) + 1}"
    found = findings(read(audit, Filter(since=since)), subject)
    with bundling(target) as bundle:
        records = look_around(read(audit, Filter(since=since)), subject, found)
        facts = {"incident": incident.number, "about": incident.subject, "reason": incident.opened["reason"], "opened": incident.opened["at"]}
        totals = write_events(bundle, records, f"Events around incident {incident.number}", {**facts, "since": since.isoformat(), **told})
        inform = whom_to_inform(found, incident.opened.get("contacts") or ())
        with bundle.file("findings.json") as stream:
            stream.write(encode({**found.values(), "inform": inform}))
        _write_page(bundle, incident, found, facts, inform)
        bundle.seal({"kind": "incident", **facts, "inform": inform, **told, **totals.values()}, signer, allowed_signers)
    return target, found


def whom_to_inform(found: Findings, contacts: Sequence[str]) -> list[str]:
    """The contacts of the settings, and the clients whose papers were touched."""
    return [*contacts, *(f"the client {client}: touched {counted(count, 'time')}" for client, count in sorted(found.clients.items()))]


def _write_page(bundle: Bundle, incident: Incident, found: Findings, facts: Mapping[str, object], inform: Sequence[str]) -> None:
    values = found.values()
    with bundle.file("findings.html") as html:
        html.write(page.opening(f"Incident {incident.number}: {incident.subject}", "Every event is in page.html and events.jsonl beside this page."))
        html.write(page.facts(facts))
        html.write(page.heading("Whom to inform"))
        html.write(page.table(("who",), ((one,) for one in inform)) if inform else page.paragraph("Nobody is named in incident.contacts."))
        for title, name, columns in (
            ("Sessions", "sessions", ("opened", "closed", "person", "client", "address", "software", "session")),
            ("Papers touched", "papers", ("first", "last", "client", "path", "how", "paper")),
            ("Addresses", "addresses", ("address", "first", "last")),
        ):
            rows: list[dict[str, Any]] = values[name]
            html.write(page.heading(f"{title}: {len(rows):,}"))
            html.write(page.table(columns, ([_cell(one.get(column)) for column in columns] for one in rows[:SHOWN])))
        html.write(page.heading("Others from the same addresses"))
        html.write(page.table(("person", "addresses"), ((name, ", ".join(seen)) for name, seen in values["others_from_the_same_addresses"].items())))
        html.write(page.CLOSING)


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value if value is not None else "")
