"""The pictures of open-loop reports in a run's `videos/`: their names, their speed, how many are kept. Torch-free."""

import re

FPS = 10
HELD = FPS
"""Frames for which a video holds its last step."""
KEEP = 5
"""Newest reports whose pictures are kept."""
PICTURE = re.compile(r"openloop-(\d{8,16})\.(mp4|png)")


def picture_name(updates: int) -> str:
    """Without its suffix."""
    return f"openloop-{updates:08d}"
