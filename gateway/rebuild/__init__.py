"""A catalog that is lost, put together again from what else lies in the data folder: keys, vault, quarantine, receipts and the audit log.

`sources` says what each of them tells, `judge` makes rows of it (pure), `catalog` writes them. What nothing tells any more is listed.
"""
