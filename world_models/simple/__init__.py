"""A small world model to begin with: encoder, dynamics, decoder and reward as MLPs, trained on single transitions."""
