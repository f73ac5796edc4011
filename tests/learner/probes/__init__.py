"""Tests of learner/probes."""
