"""Files of replay: whole or not at all, mapped into memory, compared with their checksums."""
