"""Extras beside an evaluation: bounds, checks of other people's results, the board, exports."""
