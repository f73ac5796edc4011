"""Pretraining of JEPAs, Genie and latent worlds: one update after another, in any number of processes."""
