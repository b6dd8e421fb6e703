"""Talking to an OpenAI-compatible server: address and secrets, deadlines and retries, checked replies."""
