"""Reports of a run: logs, the live display, curves, videos and the final summary."""
