"""What the catalog raises instead of the database's own exceptions."""

from __future__ import annotations

from config.errors import OutOfReach


class CatalogError(OutOfReach):
    """The database cannot be read or written now (locked, full, damaged)."""
