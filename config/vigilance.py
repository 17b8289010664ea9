"""Settings of incidents."""

from __future__ import annotations

from pydantic import Field

from config.section import Section


class IncidentSettings(Section):
    """Incidents: `nightsafe incident`."""

    contacts: tuple[str, ...] = Field(
        (), max_length=100, description="Whom to inform, in the words that are to be shown: ['data protection officer: dpo@example.com']."
    )
    days: float = Field(90.0, gt=0, le=36_600, description="How far back the bundle of an incident goes.")
