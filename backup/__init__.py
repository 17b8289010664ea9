"""From the data folder to S3 and back: backups, rehearsed restores, evidence."""
