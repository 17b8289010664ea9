"""From a landed paper to its receipt: watch → pipeline → receipts. The steps, and what happens when each fails, are in README.md."""
