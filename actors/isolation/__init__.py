"""Environments in processes of their own, which may hang, leak memory or crash."""
