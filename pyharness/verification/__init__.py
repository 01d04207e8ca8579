"""Checks: statements about a running deployment, each verified with evidence."""
