"""Test harness for disaggregated LLM serving: deploys, verifies, and judges one end-to-end test case."""
