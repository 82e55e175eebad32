"""Results in the forms that public leaderboards take: JARVIS-Leaderboard and Matbench v0.1."""
