"""Shim for tools that look for setup.py; the metadata lives in setup.cfg."""

from setuptools import setup

setup()
