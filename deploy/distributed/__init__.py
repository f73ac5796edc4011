"""A run in several processes: Ray actors, the learner's process and the supervisor; the only room that knows Ray."""
