"""The trusted process of a device: inputs, reference, expected values, comparison, clock, verdict.

Nothing in this package imports candidate code; a candidate is only ever a text
that is sent to a worker, and bytes that are found in the oracle's own memory.
"""
