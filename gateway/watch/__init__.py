"""A watch over the audit log for what people do otherwise than they usually do.

`habits` is what is known of one person, `detector` judges events by it (both pure), `store` keeps it over restarts, `watcher` follows the log.
"""
