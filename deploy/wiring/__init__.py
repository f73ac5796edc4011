"""What a run is made of: its configuration, task, agent and stores."""
