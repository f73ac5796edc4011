"""`nexus report`: runs and published scores compared in one document."""
