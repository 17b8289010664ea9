"""The audit log: segments of JSON lines, each a hash chain, joined by signed checkpoints; and the SSH signatures that sign them."""

from gateway.audit.events import Event
from gateway.audit.log import AuditLog, AuditUnavailable

__all__ = ["AuditLog", "AuditUnavailable", "Event"]
