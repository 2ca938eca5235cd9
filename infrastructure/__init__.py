"""The deploy tooling: stack.yaml to a healthy stack on a host."""
