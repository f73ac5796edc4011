"""What runs in the supervisor's process: it starts the others of a local run, watches them and brings them back.

It imports no torch.
"""
