"""What a run reports: logs, the live display, curves, videos and the final summary."""
