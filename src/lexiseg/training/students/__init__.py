"""Weak supervision: a small network that learns from a teacher's masks."""
