"""Pretraining of I-JEPA, V-JEPA 2 and V-JEPA 2-AC: one update after another, in any number of processes."""
