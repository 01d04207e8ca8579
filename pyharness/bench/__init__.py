"""What the harness itself costs: make bench.

Runs of test_xpyd on the simulated engine, which serves at once and answers at once, so that what is measured is the
harness, Ansible and the starting of processes. It measures and never judges: no test fails for a time.

Not to be mixed up with the verb `bench` (pyharness/loadtest), which measures a deployment under load.
"""
