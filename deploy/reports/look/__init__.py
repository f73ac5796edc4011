"""What a trained model sees, predicts and imagines, as pictures."""
