"""Recommendation: what a user takes next, and how they would rate an item."""
