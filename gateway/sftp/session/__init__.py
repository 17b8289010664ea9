"""An SFTP session, from its requests in order to its replies: what each operation means, whose folders it sees, what is recorded of it."""
