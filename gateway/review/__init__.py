"""The review of who can reach what: `traces` reads it from the audit log, `access` puts it together and compares, `record` keeps it as evidence."""
