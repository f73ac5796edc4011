"""Where every step and sequence lies, and which sequence is drawn next."""
