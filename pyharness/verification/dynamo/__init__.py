"""Checks of Dynamo: its OpenAI surface, its router, its prefill and decode workers."""
