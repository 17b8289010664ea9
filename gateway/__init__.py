"""From the client's SFTP session to a sealed, catalogued, receipted paper. Never imports `backup`."""
