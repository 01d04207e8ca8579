"""The lab: hosts made of containers, with systemd, sshd and a Docker engine of their own, and a registry."""
