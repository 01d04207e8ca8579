"""How a deployment of a test case does under load: python -m pyharness bench TEST_CASE.

aiperf makes the load (https://github.com/ai-dynamo/aiperf) and takes the times; this package says what it is to send,
reads what it measured, and shows it. It measures and never judges. What the harness itself costs is measured by
`make bench` (pyharness/bench).
"""
