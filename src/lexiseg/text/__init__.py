"""Phrases as data: wordings, templates and negatives, one YAML file a target; their embeddings."""
