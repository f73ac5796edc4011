"""A policy scored inside its world model, beside what it really gets."""
