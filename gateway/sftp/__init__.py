"""The SFTP server: logging in, the protocol (version 3, without I/O), sessions, and what ties names to papers.

The only importer of `asyncssh`. Names go to `gateway.jail`, content to `gateway.store`; nothing here writes a client's byte to a disk.
"""
