"""Planners over any world model that keeps `world_models.protocol`: they search action sequences of least cost.

Legend of this folder: P problems, S samples of each, H steps, A width of an action vector, N = P * S rows.
"""
