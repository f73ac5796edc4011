"""A job in containers on this machine, by docker-compose.yml."""
