"""`nexus play`: a page on which people play worlds that a Genie generates."""
