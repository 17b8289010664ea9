"""Notices about events to people and programs outside, by Apprise.

The audit log is the source: whatever a role records can be told, and no role waits for it. `collecting` reads new lines, `outbox` keeps what is
still to be sent, `sending` is the only importer of Apprise, `notifier` runs it all, `receivers` are who is told, `notices` what they are told (pure).
"""
