"""How long papers are kept, and their end: `due` decides (pure), `expiry` removes. What a legal hold covers stays."""
