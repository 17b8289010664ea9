"""The commands of the gateway's wing: thin, one module a noun."""
