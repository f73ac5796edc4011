"""How many sequences fit into a replay."""


def most_items(streams: int, *, length: int, chunk_length: int, slots: int, capacity: int) -> int:
    """The most items at a time of so many streams that write equally fast into so many chunks: the last steps of each
    stream start none."""
    if not streams:
        return 0
    return min(capacity, streams * max(0, slots // streams * chunk_length - length + 1))
