"""Joint-embedding predictive architectures: I-JEPA, V-JEPA 2 and V-JEPA 2-AC."""
