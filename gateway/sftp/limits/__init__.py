"""How much one client, and the disk, may hold: room, names, sessions, speed; counted over all workers."""
