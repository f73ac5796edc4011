"""A run in several processes, the only room that knows Ray.

`x.py`, `x_server.py` and `x_process.py` run in a process of their own, `x_client.py` in every process that calls it,
and `supervisor/x_child.py` in the supervisor, which starts it, watches it and brings it back.
"""
