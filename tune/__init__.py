"""Sweeps: search spaces, schedulers, trials that are runs, and what came of them."""
