"""Genie: worlds learned from video without actions, and played frame by frame (Bruce et al. 2024, arXiv 2402.15391)."""
