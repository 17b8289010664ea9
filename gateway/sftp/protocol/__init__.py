"""SFTP version 3 without I/O: bytes to typed requests, typed replies to bytes, and the bounds on both."""
