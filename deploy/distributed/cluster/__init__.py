"""What only cluster mode needs: an existing Ray cluster is examined, joined, and given the user's code."""
