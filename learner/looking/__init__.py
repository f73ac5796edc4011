"""Looks into trained models: what their features show, where their predictions fail, and what they imagine."""
