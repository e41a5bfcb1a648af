"""Runs test scripts written for the NixOS test driver on machines without NixOS. See ../README.md."""
