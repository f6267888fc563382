"""The leaderboard: defences of several runs side by side, as a static site and as data."""
