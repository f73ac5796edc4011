"""Atari 2600 games on the Arcade Learning Environment: `atari_pong`, and the scores of humans to compare with."""
