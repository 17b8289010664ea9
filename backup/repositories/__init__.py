"""Where backups lie: places and credentials, repositories and their locks, and what is known here of each snapshot."""
