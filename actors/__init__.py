"""Acting in environments: adapters, vectorised stepping, policies, evaluation."""
