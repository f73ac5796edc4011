"""`nexus monitor`: a page that shows runs while they learn, and steers them."""
