"""How good generated video is, and whether its actions steer it."""
