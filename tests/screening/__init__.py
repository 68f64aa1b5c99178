"""Tests of the screening stage."""
