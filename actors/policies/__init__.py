"""What an actor asks of its policy, and policies of no family of their own: planners over any world model."""
