"""What `nexus pretrain` can train."""
