"""Probes: classifiers that read labels from a frozen encoder, and what to compare them with."""
