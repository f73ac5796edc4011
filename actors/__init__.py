"""Everything that acts in environments: adapters, vectorised stepping, policies, evaluation."""
