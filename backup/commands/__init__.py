"""The commands of the backup wing: thin, one module a noun."""
