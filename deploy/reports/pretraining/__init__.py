"""What a pretraining run reports."""
