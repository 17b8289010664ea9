"""Papers from hand to hand, by staff: out, as an encrypted zip for people without other tools; in, by the same road as a client's."""
