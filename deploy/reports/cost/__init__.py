"""What the updates of a run cost, before it and while it learns."""
