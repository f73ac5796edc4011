"""The parts of a run: its configuration, task, agent and stores."""
