"""The seam to asyncssh: sockets, algorithms, and the fast road of a connection's packets."""
