"""Latent world models: an encoder and a predictor trained together, from pixels and actions alone."""
