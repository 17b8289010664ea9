"""Is everything safe? One line for each thing that can be wrong, from the backups and from the house itself."""
