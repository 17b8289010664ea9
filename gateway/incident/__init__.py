"""Incidents: `ledger` keeps them as evidence, `findings` reads what somebody touched from the audit log, `collect` makes the signed bundle."""
