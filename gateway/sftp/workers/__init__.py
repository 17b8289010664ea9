"""Several processes on one port: who is home to which client, and how a session reaches it."""
