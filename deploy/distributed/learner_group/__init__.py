"""The processes of a learner that share every batch."""
