"""The untrusted process: it holds one candidate, answers small messages, and is killed after.

Everything in this package runs beside hostile code and is believed by nobody:
the oracle judges bytes that it finds in its own memory.
"""
