"""What makes work happen unattended: slots, tries, lanes of jobs, and who is told of it outside."""
