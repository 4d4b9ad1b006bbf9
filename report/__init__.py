"""Tables, plots and pages of the leaderboard, made only from results/."""
