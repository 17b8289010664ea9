"""What keeps repositories sound: checks, repairs, and letting old snapshots go."""
