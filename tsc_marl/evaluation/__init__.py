"""Policies on held-out seeds: metrics, statistics, tables."""
