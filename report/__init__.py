"""Tables, plots and the leaderboard page; reads results/ only."""
