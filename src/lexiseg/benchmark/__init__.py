"""Presets over data sets, as data (YAML): missing cells are run, scored and put in a leaderboard."""
