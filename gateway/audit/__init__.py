"""The audit log: segments of JSON lines, each a hash chain, joined by signed checkpoints; and the SSH signatures that sign them."""
