"""World models: DreamerV3, I-JEPA, V-JEPA 2 and Genie, and the planners that work over any of them."""
