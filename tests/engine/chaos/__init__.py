"""Faults of the machine below a deployed stack: containers, engine, network, memory, disk, sshd."""
