"""Rehearsed restores: draw (pure), restore what was drawn from the bucket, judge it (pure), record the verdict."""
