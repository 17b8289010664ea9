"""Alembic's entry: runs the migrations on the connection that `gateway.catalog.schema` hands over."""

from __future__ import annotations

from alembic import context

from gateway.catalog.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
