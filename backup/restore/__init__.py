"""Papers out of a snapshot: as plaintext into a folder, or sealed back into the data folder."""
