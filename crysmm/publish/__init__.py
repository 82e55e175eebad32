"""Submissions to public leaderboards: JARVIS-Leaderboard and Matbench v0.1."""
