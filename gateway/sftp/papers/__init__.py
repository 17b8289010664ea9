"""Papers on their way in and out: opened, written, closed, named, published, read."""
