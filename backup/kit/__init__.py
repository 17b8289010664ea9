"""The recovery kit that somebody typed or scanned in: what it says, whether it still opens everything, and a data folder made with it."""
